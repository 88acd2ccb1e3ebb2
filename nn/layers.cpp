#include "nn/layers.h"

#include "nn/trace.h"
#include "ops/conv_transpose2x2/conv_transpose2x2.h"
#include "ops/depthwise3x3/depthwise3x3.h"
#include "ops/group_norm/group_norm.h"
#include "ops/layer_norm/layer_norm.h"
#include "ops/linear/linear.h"

namespace sg::nn {
namespace {

Parameter* add_vector(const ParameterScope& scope, const std::string& name, int64_t n, Init init,
                      DtypeRole role = DtypeRole::elementwise) {
  return scope.add({{name, {n}, Layout::same, init}}, {n}, role);
}

int64_t size_of(const Parameter* p) { return p->shape.numel(); }

// Weights (out, in, kernel, kernel) of a convolution; of 1 x 1 they are those of a linear layer.
Parameter* add_kernel(const ParameterScope& scope, const std::string& name, int kernel, int64_t in,
                      int64_t out, Init init) {
  check(kernel == 1 || kernel == 3, "{}: expected a kernel of 1 or 3, found {}", scope.name(name),
        kernel);
  const Shape official{out, in, kernel, kernel};
  if (kernel == 1)
    return scope.add({{name, official, Layout::same, init}}, {out, in}, DtypeRole::matmul);
  return scope.add({{name, official, Layout::conv, init}}, {out, 3, 3, in}, DtypeRole::matmul);
}

Tensor convolve(const Tensor& x, int kernel, const Parameter* w, const Tensor& bias,
                int stride = 1) {
  if (kernel == 1) return linear(x, w->value, bias);
  return conv2d(x, w->value, bias, {stride, 1, 1, 1, 1});
}

const char* kind_of(int kernel) { return kernel == 1 ? "conv1x1" : "conv3x3"; }

}  // namespace

Linear::Linear(const ParameterScope& scope, const std::vector<Output>& outputs, int64_t in,
               Init init, int64_t pixels) {
  const Layout layout = pixels > 1 ? Layout::flat_map : Layout::same;
  std::vector<NamedSlice> weights, biases;
  int64_t out = 0;
  for (const Output& o : outputs) {
    weights.push_back({o.name + ".weight", {o.size, in}, layout, init, {}, pixels});
    biases.push_back({o.name + ".bias", {o.size}, Layout::same, Init::zeros});
    out += o.size;
    name_ += (name_.empty() ? "" : "|") + o.name;
  }
  name_ = scope.name(name_);
  w_ = scope.add(weights, {out, in}, DtypeRole::matmul);
  b_ = scope.add(biases, {out}, DtypeRole::matmul);
}

Tensor Linear::operator()(const Tensor& x) const {
  const Tensor y = linear(x, w_->value, b_->value);
  trace(name_, "linear", y, size_of(w_) + size_of(b_));
  return y;
}

LayerNorm::LayerNorm(const ParameterScope& scope, const std::string& name, int64_t channels,
                     double eps, Activation act)
    : name_(scope.name(name)),
      w_(add_vector(scope, name + ".weight", channels, Init::ones)),
      b_(add_vector(scope, name + ".bias", channels, Init::zeros)),
      eps_(eps),
      act_(act) {}

Tensor LayerNorm::operator()(const Tensor& x) const {
  const Tensor y = layer_norm(x, w_->value, b_->value, eps_, act_);
  trace(name_, act_ == Activation::gelu ? "layer_norm+gelu" : "layer_norm", y,
        size_of(w_) + size_of(b_));
  return y;
}

AddLayerNorm LayerNorm::add_and_norm(const Residual& residual) const {
  check(act_ == Activation::none, "{}: the norm of a sum has no activation", name_);
  const auto& [x, branch, keep] = residual;
  if (!branch) return {x, (*this)(x)};
  const AddLayerNorm r = add_layer_norm(x, branch, keep, w_->value, b_->value, eps_);
  trace(name_, "layer_norm", r.norm, size_of(w_) + size_of(b_));
  return r;
}

ConvNorm::ConvNorm(const ParameterScope& scope, const std::string& name, Kind kind, int64_t in,
                   int64_t out, int stride, Activation act)
    : name_(scope.name(name)), kind_(kind), stride_(stride), act_(act) {
  const std::string weight = name + ".c.weight";
  switch (kind) {
    case Kind::conv3x3:
      c_ = add_kernel(scope, weight, 3, in, out, Init::conv);
      break;
    case Kind::conv1x1:
      c_ = add_kernel(scope, weight, 1, in, out, Init::conv);
      break;
    case Kind::depthwise3x3:
      check(in == out, "{}: a depthwise convolution keeps its {} channels, {} were asked", name_,
            in, out);
      c_ = scope.add({{weight, {out, 1, 3, 3}, Layout::depthwise, Init::conv}}, {3, 3, out});
      break;
  }
  w_ = add_vector(scope, name + ".bn.weight", out, Init::ones);
  b_ = add_vector(scope, name + ".bn.bias", out, Init::zeros);
}

Tensor ConvNorm::operator()(const Tensor& x) const {
  Tensor y;
  switch (kind_) {
    case Kind::conv3x3:
      y = convolve(x, 3, c_, {}, stride_);
      break;
    case Kind::conv1x1:
      y = convolve(x, 1, c_, {});
      break;
    case Kind::depthwise3x3:
      y = depthwise3x3(x, c_->value, {}, stride_);
      break;
  }
  constexpr const char* kKinds[] = {"conv3x3", "conv1x1", "depthwise3x3"};
  trace(name_ + ".c", kKinds[int(kind_)], y, size_of(c_));
  y = group_norm(y, w_->value, b_->value, 1e-5, act_);
  trace(name_ + ".bn", act_ == Activation::gelu ? "group_norm+gelu" : "group_norm", y,
        size_of(w_) + size_of(b_));
  return y;
}

Conv2d::Conv2d(const ParameterScope& scope, const std::string& name, int kernel, int64_t in,
               int64_t out, Init init)
    : name_(scope.name(name)),
      kernel_(kernel),
      w_(add_kernel(scope, name + ".weight", kernel, in, out, init)),
      b_(add_vector(scope, name + ".bias", out, Init::zeros, DtypeRole::matmul)) {}

Tensor Conv2d::operator()(const Tensor& x, int stride) const {
  check(stride == 1 || kernel_ == 3, "{}: a kernel of 1 has no stride", name_);
  const Tensor y = convolve(x, kernel_, w_, b_->value, stride);
  trace(name_, kind_of(kernel_), y, size_of(w_) + size_of(b_));
  return y;
}

ConvTranspose2x2::ConvTranspose2x2(const ParameterScope& scope, const std::string& name, int64_t in,
                                   int64_t out)
    : name_(scope.name(name)),
      w_(scope.add({{name + ".weight", {in, out, 2, 2}, Layout::conv_transpose, Init::conv}},
                   {4 * out, in}, DtypeRole::matmul)),
      b_(add_vector(scope, name + ".bias", out, Init::zeros, DtypeRole::matmul)) {}

Tensor ConvTranspose2x2::operator()(const Tensor& x) const {
  const Tensor y = conv_transpose2x2(x, w_->value, b_->value);
  trace(name_, "conv_transpose2x2", y, size_of(w_) + size_of(b_));
  return y;
}

ConvBnRelu::ConvBnRelu(const ParameterScope& scope, const std::string& name, int kernel, int64_t in,
                       int64_t out)
    : name_(scope.name(name)),
      kernel_(kernel),
      c_(add_kernel(scope, name + ".conv.weight", kernel, in, out, Init::conv)),
      w_(add_vector(scope, name + ".bn.weight", out, Init::ones)),
      b_(add_vector(scope, name + ".bn.bias", out, Init::zeros)),
      mean_(scope.add_buffer(name + ".bn.running_mean", {out}, 0)),
      var_(scope.add_buffer(name + ".bn.running_var", {out}, 1)) {}

Tensor ConvBnRelu::operator()(const Tensor& x, BatchNormSettings settings) const {
  Tensor y = convolve(x, kernel_, c_, {});
  trace(name_ + ".conv", kind_of(kernel_), y, size_of(c_));
  settings.act = Activation::relu;
  y = batch_norm(y, w_->value, b_->value, mean_->value, var_->value, settings);
  trace(name_ + ".bn", "batch_norm+relu", y, size_of(w_) + size_of(b_));
  return y;
}

SpatialReduction::SpatialReduction(const ParameterScope& scope, const std::string& name,
                                   int64_t channels, int s)
    : name_(scope.name(name)),
      s_(s),
      w_(scope.add({{name + ".weight", {channels, channels, s, s}, Layout::conv, Init::conv}},
                   {channels, s, s, channels}, DtypeRole::matmul)),
      b_(add_vector(scope, name + ".bias", channels, Init::zeros, DtypeRole::matmul)) {}

Tensor SpatialReduction::operator()(const Tensor& x) const {
  const auto missing = [&](int64_t n) { return int((s_ - n % s_) % s_); };
  const Tensor y =
      conv2d(x, w_->value, b_->value, {s_, 0, 0, missing(x.dim(1)), missing(x.dim(2))});
  trace(name_, "merge_conv", y, size_of(w_) + size_of(b_));
  return y;
}

DepthwiseWeights::DepthwiseWeights(const ParameterScope& scope, const std::string& name,
                                   int64_t channels)
    : w(scope.add({{name + ".weight", {channels, 1, 3, 3}, Layout::depthwise, Init::conv}},
                  {3, 3, channels})),
      b(add_vector(scope, name + ".bias", channels, Init::zeros)) {}

}  // namespace sg::nn
