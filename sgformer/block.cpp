#include "sgformer/block.h"

#include "nn/trace.h"
#include "ops/depthwise3x3/depthwise3x3.h"

namespace sg::sgformer {

using nn::ConvNorm;

Mlp::Mlp(const nn::ParameterScope& scope, int64_t dim, int64_t hidden)
    : name_(scope.name("dwconv")),
      fc1_(scope, "fc1", dim, hidden),
      dwconv_(scope / "dwconv", "dwconv", hidden) {
  fc2_ = nn::Linear(scope, "fc2", hidden, dim);
}

Tensor Mlp::operator()(const Tensor& x) const {
  const Tensor z = depthwise3x3_add_gelu(fc1_(x), dwconv_.w->value, dwconv_.b->value);
  nn::trace(name_, "depthwise3x3+gelu", z, dwconv_.w->shape.numel() + dwconv_.b->shape.numel());
  return fc2_(z);
}

Stem::Stem(const nn::ParameterScope& scope, int64_t dim, const std::array<int, 3>& strides)
    : conv0_(scope / "conv", "0", ConvNorm::Kind::conv3x3, 3, dim, strides[0], Activation::gelu),
      conv2_(scope / "conv", "2", ConvNorm::Kind::conv3x3, dim, dim, strides[1], Activation::gelu),
      conv4_(scope / "conv", "4", ConvNorm::Kind::conv3x3, dim, dim, strides[2], Activation::none),
      norm_(scope, "norm", dim, 1e-5) {}

Tensor Stem::operator()(const Tensor& image) const { return norm_(conv4_(conv2_(conv0_(image)))); }

PatchMerging::PatchMerging(const nn::ParameterScope& scope, int64_t in, int64_t out)
    : conv1_(scope, "conv1", ConvNorm::Kind::conv1x1, in, out, 1, Activation::gelu),
      conv2_(scope, "conv2", ConvNorm::Kind::depthwise3x3, out, out, 2, Activation::gelu),
      conv3_(scope, "conv3", ConvNorm::Kind::conv1x1, out, out, 1, Activation::none) {}

Tensor PatchMerging::operator()(const Tensor& x) const { return conv3_(conv2_(conv1_(x))); }

Block::Block(const nn::ParameterScope& scope, const Config& config, const StageConfig& stage,
             BlockKind kind)
    : kind_(kind), norm1_(scope, "norm1", stage.dim, 1e-6) {
  switch (kind) {
    case BlockKind::hybrid:
      hybrid_.emplace(scope / "attn", config, stage);
      break;
    case BlockKind::self_guided:
      self_guided_.emplace(scope / "attn", stage);
      break;
    case BlockKind::full:
      full_.emplace(scope / "attn", stage.dim, stage.heads);
      break;
  }
  norm2_ = nn::LayerNorm(scope, "norm2", stage.dim, 1e-6);
  mlp_.emplace(scope / "mlp", stage.dim, config.mlp_ratio * stage.dim);
}

nn::Residual Block::operator()(const nn::Residual& x, Tensor& significance,
                               const DropPathFactors& keep) const {
  const auto [sum, n] = norm1_.add_and_norm(x);
  Tensor branch;
  if (hybrid_) {
    auto r = (*hybrid_)(n);
    branch = r.out;
    significance = r.significance;
  } else {
    branch = self_guided_ ? (*self_guided_)(n, significance) : (*full_)(n);
  }
  const AddLayerNorm r = norm2_.add_and_norm({sum, branch, keep.attention});
  return {r.sum, (*mlp_)(r.norm), keep.mlp};
}

}  // namespace sg::sgformer
