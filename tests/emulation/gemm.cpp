// cuBLASLt's part of the emulation: the matmuls of the CPU.
#include "core/cuda/gemm.h"

#include <vector>

#include "core/cpu/gemm.h"
#include "tests/emulation/emulator.h"

namespace sg::cuda {
namespace {

// Rows of memory behind an operand, as floats without gaps.
std::vector<float> dense(const void* data, Dtype dtype, int64_t rows, int64_t columns,
                         int64_t stride) {
  std::vector<float> to(size_t(rows * columns));
  dispatch<float, bf16>(dtype, "gemm", [&]<class T>() {
    const T* from = static_cast<const T*>(data);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < columns; ++c)
        to[size_t(r * columns + c)] = static_cast<float>(from[r * stride + c]);
  });
  return to;
}

std::vector<float> operand(const GemmOperand<void>& o, Dtype dtype, int64_t rows, int64_t columns) {
  return o.transposed ? dense(o.data, dtype, columns, rows, o.stride)
                      : dense(o.data, dtype, rows, columns, o.stride);
}

void compute(const Gemm& p) {
  const std::vector<float> a = operand(p.a, p.in, p.m, p.k), b = operand(p.b, p.in, p.k, p.n);
  if (p.bias_grad)
    for (int64_t i = 0; i < p.m; ++i) {
      float sum = 0;
      for (int64_t j = 0; j < p.k; ++j)
        sum += a[size_t(p.a.transposed ? j * p.m + i : i * p.k + j)];
      p.bias_grad[i] = sum;
    }
  std::vector<float> c = dense(p.c, p.out, p.m, p.n, p.c_stride), bias;
  if (p.bias) bias = dense(p.bias, p.out, 1, p.n, p.n);
  const auto as = [](const std::vector<float>& v, bool transposed, int64_t rows, int64_t columns) {
    return GemmOperand<float>{v.data(), transposed ? rows : columns, transposed};
  };
  sg::gemm<float>(p.m, p.n, p.k, as(a, p.a.transposed, p.m, p.k), as(b, p.b.transposed, p.k, p.n),
                  c.data(), p.accumulate, p.bias ? bias.data() : nullptr);
  dispatch<float, bf16>(p.out, "gemm", [&]<class T>() {
    T* to = static_cast<T*>(p.c);
    for (int64_t r = 0; r < p.m; ++r)
      for (int64_t j = 0; j < p.n; ++j) to[r * p.c_stride + j] = T(c[size_t(r * p.n + j)]);
  });
}

void issue(Stream& stream, const Gemm& product) {
  emulation::enqueue(stream, [product] {
    if (!emulation::dry()) compute(product);
  });
}

}  // namespace

void gemm(Stream& stream, const Gemm& product) {
  check(!product.bias && !product.bias_grad, "gemm: a bias, or its gradient, is for fused_gemm()");
  issue(stream, product);
}

// As if the library could for some sizes only, so that tests go both ways.
bool fused_gemm(Stream& stream, const Gemm& product) {
  check(!product.bias != !product.bias_grad && (!product.bias_grad || product.out == Dtype::f32),
        "gemm: expected a bias, or the gradient of one with a result in f32");
  if (product.n % 2 != 0) return false;
  issue(stream, product);
  return true;
}

}  // namespace sg::cuda
