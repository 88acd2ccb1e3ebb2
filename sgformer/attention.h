// The three attention modules of the network (paper sections 3.2 and 3.3).
// All take the LayerNorm-ed map x (B, H, W, C) and return the projected result of the same shape.
#pragma once
#include <vector>

#include "nn/layers.h"
#include "ops/attention/attention.h"
#include "sgformer/config.h"

namespace sg::sgformer {

// What every attention shares: the projections of x as one matmul, LePE, the output projection.
class AttentionBase {
 protected:
  AttentionBase(const nn::ParameterScope& scope, std::vector<nn::Linear::Output> projections,
                int64_t dim, int heads);
  AttentionResult attend(const Tensor& x, const std::vector<Tensor>& kv,
                         std::vector<HeadGroup> groups) const;

  int64_t dim_;
  int heads_;

 private:
  std::string name_;
  int64_t lepe_column_ = 0;
  nn::Linear in_, proj_;
  nn::DepthwiseWeights lepe_;
};

// Every token attends to every other (stage 4).
class FullAttention : AttentionBase {
 public:
  FullAttention(const nn::ParameterScope& scope, int64_t dim, int heads);
  Tensor operator()(const Tensor& x) const;
};

// Groups of heads, each at its own scale; also measures how significant each token is.
class HybridAttention : AttentionBase {
 public:
  struct Result {
    Tensor out;
    Tensor significance;  // (B, H, W), detached
  };
  HybridAttention(const nn::ParameterScope& scope, const Config& config, const StageConfig& stage);
  Result operator()(const Tensor& x) const;

 private:
  struct Merge {  // keys and values of a coarser scale: conv, LayerNorm, GELU, linear
    nn::SpatialReduction sr;
    nn::LayerNorm norm;
    nn::Linear kv;
  };
  std::vector<ScaleGroup> scales_;
  std::vector<Merge> merges_;  // of the groups with scale > 1, in order
  int window_;
  Guidance guidance_;
  bool balance_;
};

// Every token attends to aggregated tokens: many where the map is significant, few elsewhere.
class SelfGuidedAttention : AttentionBase {
 public:
  SelfGuidedAttention(const nn::ParameterScope& scope, const StageConfig& stage);
  Tensor operator()(const Tensor& x, const Tensor& significance) const;

 private:
  std::string name_;
  std::vector<RegionShare> regions_;
  std::vector<nn::Parameter*> w_, b_;
  nn::Linear kv_;
};

}  // namespace sg::sgformer
