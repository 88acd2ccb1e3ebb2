// Layers: parameters with their official names, and the operation that uses them.
#pragma once
#include "nn/parameters.h"
#include "ops/activation.h"
#include "ops/add_layer_norm/add_layer_norm.h"
#include "ops/batch_norm/batch_norm.h"
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
  Linear(const ParameterScope& scope, const std::string& name, int64_t in, int64_t out,
         Init init = Init::linear)
      : Linear(scope, {{name, out}}, in, init) {}
  // `pixels` above 1: x are maps of so many pixels, flattened, channels last as they are. In the
  // published model they are flattened channels first.
  Linear(const ParameterScope& scope, const std::vector<Output>& outputs, int64_t in,
         Init init = Init::linear, int64_t pixels = 1);
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

// A convolution with bias, kernel x kernel (1 or 3), that keeps the size of the map.
class Conv2d {
 public:
  Conv2d() = default;
  Conv2d(const ParameterScope& scope, const std::string& name, int kernel, int64_t in, int64_t out,
         Init init);
  // `stride` 2: of a kernel of 3, what it gives at even rows and columns.
  Tensor operator()(const Tensor& x, int stride = 1) const;

 private:
  std::string name_;
  int kernel_ = 1;
  Parameter *w_ = nullptr, *b_ = nullptr;
};

// A transposed convolution with bias, 2 x 2 with stride 2, that doubles the size of the map.
class ConvTranspose2x2 {
 public:
  ConvTranspose2x2() = default;
  ConvTranspose2x2(const ParameterScope& scope, const std::string& name, int64_t in, int64_t out);
  Tensor operator()(const Tensor& x) const;

 private:
  std::string name_;
  Parameter *w_ = nullptr, *b_ = nullptr;
};

// A convolution without bias (`<name>.conv`) that keeps the size of the map, batch norm
// (`<name>.bn`) and ReLU: mmcv's ConvModule.
class ConvBnRelu {
 public:
  ConvBnRelu() = default;
  // kernel: 1 or 3
  ConvBnRelu(const ParameterScope& scope, const std::string& name, int kernel, int64_t in,
             int64_t out);
  // All of `settings` but the activation are those of the batch norm.
  Tensor operator()(const Tensor& x, BatchNormSettings settings) const;

 private:
  std::string name_;
  int kernel_ = 1;
  Parameter *c_ = nullptr, *w_ = nullptr, *b_ = nullptr;
  Buffer *mean_ = nullptr, *var_ = nullptr;
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
