// Layers: parameters with their official names, and the operation that uses them.
#pragma once
#include "nn/parameters.h"
#include "ops/activation.h"
#include "ops/add_layer_norm/add_layer_norm.h"
#include "ops/conv2d/conv2d.h"

namespace sg::nn {

// y = x W^T + b. With several outputs, the projections of one input are one matmul whose
// columns follow each other; each keeps its own official tensors <name>.weight and <name>.bias.
class Linear {
 public:
  struct Output {
    std::string name;
    int64_t size;
  };
  Linear() = default;
  Linear(const ParameterScope& scope, const std::string& name, int64_t in, int64_t out)
      : Linear(scope, {{name, out}}, in) {}
  Linear(const ParameterScope& scope, const std::vector<Output>& outputs, int64_t in);
  Tensor operator()(const Tensor& x) const;

 private:
  std::string name_;
  Parameter *w_ = nullptr, *b_ = nullptr;
};

// A residual connection that is still open: x + keep * branch, or x alone where `branch` is
// undefined. Blocks pass this on instead of the sum: the norm that reads the sum also adds it, in
// one pass over memory (add_and_norm). `keep` are the factors of stochastic depth (ops/drop_path).
struct Residual {
  Tensor x, branch, keep;
};

class LayerNorm {
 public:
  LayerNorm() = default;
  LayerNorm(const ParameterScope& scope, const std::string& name, int64_t channels, double eps,
            Activation act = Activation::none);
  Tensor operator()(const Tensor& x) const;
  // Closes the residual connection: the sum and its norm (ops/add_layer_norm). No activation.
  AddLayerNorm add_and_norm(const Residual& residual) const;
  bool frozen() const { return w_->frozen(); }

 private:
  std::string name_;
  Parameter *w_ = nullptr, *b_ = nullptr;
  double eps_ = 0;
  Activation act_ = Activation::none;
};

// The network's "Conv2d_BN": a convolution without bias (`<name>.c`), GroupNorm of one group with
// eps 1e-5 (`<name>.bn`), optionally GELU.
class ConvNorm {
 public:
  enum class Kind { conv3x3, conv1x1, depthwise3x3 };
  ConvNorm() = default;
  ConvNorm(const ParameterScope& scope, const std::string& name, Kind kind, int64_t in, int64_t out,
           int stride, Activation act);
  Tensor operator()(const Tensor& x) const;

 private:
  std::string name_;
  Kind kind_ = Kind::conv3x3;
  int stride_ = 1;
  Activation act_ = Activation::none;
  Parameter *c_ = nullptr, *w_ = nullptr, *b_ = nullptr;
};

// The `sr` layers of the published model: a convolution with kernel = stride = s and bias, which
// makes one key token of s x s. The map is padded with zeros at the right and bottom to a multiple
// of s.
class SpatialReduction {
 public:
  SpatialReduction() = default;
  SpatialReduction(const ParameterScope& scope, const std::string& name, int64_t channels, int s);
  Tensor operator()(const Tensor& x) const;

 private:
  std::string name_;
  int s_ = 1;
  Parameter *w_ = nullptr, *b_ = nullptr;
};

// Weights (3, 3, C) and bias of a depthwise convolution that a fused operation applies.
struct DepthwiseWeights {
  DepthwiseWeights() = default;
  DepthwiseWeights(const ParameterScope& scope, const std::string& name, int64_t channels);
  Parameter *w = nullptr, *b = nullptr;
};

}  // namespace sg::nn
