// Layers that the literal models share, composed of the naive operations.
#pragma once
#include "tests/sgformer/literal.h"

namespace sg::test {

using Index = std::vector<int64_t>;

Tensor reshape(const Tensor& x, Shape shape);
Tensor relu(const Tensor& x);
// "name".weight and .bias of w.
Tensor lin(const LiteralWeights& w, const std::string& name, const Tensor& x);
// "Same" convolution of stride 1; without a bias where there is none.
Tensor conv(const LiteralWeights& w, const std::string& name, const Tensor& x);

// One row of weights of the input positions for each output position: (1, out, in).
using Rows = Tensor (*)(int64_t in, int64_t out);
Tensor bilinear(int64_t in, int64_t out);
Tensor nearest(int64_t in, int64_t out);
Tensor pooled(int64_t in, int64_t out);
Tensor resize(Rows rows, const Tensor& x, int64_t height, int64_t width);  // (B, H, W, C)

// y[o] = the sum over the terms of o of weight * x[pixel], rows of C channels.
struct Term {
  int64_t pixel;
  double weight;
};
Tensor weighted(const Tensor& x, const std::vector<std::vector<Term>>& terms, Shape shape);

// As many maps as there are.
std::vector<Tensor> literal_fpn(const LiteralWeights& neck, const std::vector<Tensor>& maps);

}  // namespace sg::test
