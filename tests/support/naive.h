// Differentiable operations in their plainest form, float64 on the CPU: the building blocks of
// composed references. Slow and literal on purpose; none calls code of ops/.
#pragma once
#include <functional>
#include <vector>

#include "autograd/tape.h"

namespace sg::test::naive {

// Any elementary operation is a gather of products: y[o] = sum over terms. These cover the network.
Tensor add(const Tensor& a, const Tensor& b);       // equal shapes
Tensor multiply(const Tensor& a, const Tensor& b);  // equal shapes
Tensor scale(const Tensor& a, double factor);
Tensor map(const Tensor& x, const std::function<double(double)>& f,
           const std::function<double(double)>& derivative);
Tensor gelu(const Tensor& x);
// y[i] = x[index[i]], index -1 gives zero: permutation, padding, slicing, broadcasting, gathering.
Tensor gather(const Tensor& x, const std::vector<int64_t>& index, Shape shape);
Tensor concat(const std::vector<Tensor>& parts, Shape shape);  // flat, in order
// (G, M, K) x (G, N, K)^T -> (G, M, N)
Tensor matmul_nt(const Tensor& a, const Tensor& b);
Tensor sum_last(const Tensor& x);  // (..., K) -> (...)
// Softmax over the last dimension; keep[i] false excludes the element (result 0). A row without any
// kept element gives zeros.
Tensor softmax(const Tensor& x, const std::vector<bool>& keep = {});
Tensor log_softmax(const Tensor& x);
// (x - mean) / sqrt(var + eps) over the last dimension, without affine.
Tensor standardize(const Tensor& x, double eps);

// Composed of the above.
Tensor linear(const Tensor& x, const Tensor& w, const Tensor& b);  // as ops/linear
Tensor affine(const Tensor& x, const Tensor& w, const Tensor& b);  // x * w + b over the last
Tensor permute(const Tensor& x, const std::vector<int>& dims);
Tensor conv2d(const Tensor& x, const Tensor& w, const Tensor& b, int stride, int top, int left,
              int bottom, int right);  // as ops/conv2d
Tensor depthwise3x3(const Tensor& x, const Tensor& w, const Tensor& b, int stride);

}  // namespace sg::test::naive
