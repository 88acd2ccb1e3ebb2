// The stem, the MLP, the transformer block, and the patch merging between stages.
#pragma once
#include <optional>

#include "sgformer/attention.h"

namespace sg::sgformer {

// z = fc1(x); GELU(z + depthwise3x3(z)); fc2.
class Mlp {
 public:
  Mlp(const nn::ParameterScope& scope, int64_t dim, int64_t hidden);
  Tensor operator()(const Tensor& x) const;

 private:
  std::string name_;
  nn::Linear fc1_, fc2_;
  nn::DepthwiseWeights dwconv_;
};

// Image (B, H, W, 3) to the stage-1 map, before the positional embedding.
class Stem {
 public:
  Stem(const nn::ParameterScope& scope, int64_t dim, const std::array<int, 3>& strides);
  Tensor operator()(const Tensor& image) const;

 private:
  nn::ConvNorm conv0_, conv2_, conv4_;
  nn::LayerNorm norm_;
};

// Halves the map and widens it, between stages.
class PatchMerging {
 public:
  PatchMerging(const nn::ParameterScope& scope, int64_t in, int64_t out);
  Tensor operator()(const Tensor& x) const;

 private:
  nn::ConvNorm conv1_, conv2_, conv3_;
};

// Stochastic depth: factors of the two residual branches, (B) each (ops/drop_path), or undefined.
struct DropPathFactors {
  Tensor attention, mlp;
};

enum class BlockKind { hybrid, self_guided, full };

class Block {
 public:
  Block(const nn::ParameterScope& scope, const Config& config, const StageConfig& stage,
        BlockKind kind);
  BlockKind kind() const { return kind_; }
  bool frozen() const { return norm1_.frozen(); }
  // x is what the block before returned. Returns (x, branch, keep) without adding the MLP's branch:
  // the next norm adds it (nn::LayerNorm::add_and_norm). A hybrid block sets `significance`, a
  // self-guided one uses it.
  nn::Residual operator()(const nn::Residual& x, Tensor& significance,
                          const DropPathFactors& keep) const;

 private:
  BlockKind kind_;
  nn::LayerNorm norm1_, norm2_;
  std::optional<HybridAttention> hybrid_;
  std::optional<SelfGuidedAttention> self_guided_;
  std::optional<FullAttention> full_;
  std::optional<Mlp> mlp_;
};

}  // namespace sg::sgformer
