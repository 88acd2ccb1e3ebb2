// Matmuls with a bias, fused into the matmul where cuBLASLt can. For *_cuda.cu files.
#pragma once
#include <utility>

#include "core/cuda/gemm.h"
#include "core/cuda/kernel.cuh"

namespace sg::cuda {

// Every row of c (rows, n) becomes the bias.
template <class T>
__global__ void fill_rows_kernel(const T* bias, int64_t rows, int64_t n, int64_t stride, T* c) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < rows * n) c[i / n * stride + i % n] = bias[i % n];
}

// gemm(), with or without a bias. Where cuBLASLt cannot fuse it, the matmul is added
// to rows of it: c is written once and read once more, the sum is rounded as often.
inline void biased_gemm(Stream& stream, Gemm matmul) {
  if (matmul.bias) {
    if (fused_gemm(stream, matmul)) return;
    const void* const bias = std::exchange(matmul.bias, nullptr);
    matmul.accumulate = true;
    constexpr int kThreads = 256;
    const int64_t blocks = ceil_div(matmul.m * matmul.n, kThreads);
    dispatch<float, bf16>(matmul.out, "gemm", [&]<class T>() {
      launch(stream, {"gemm.bias", unsigned(blocks), kThreads}, fill_rows_kernel<T>,
             static_cast<const T*>(bias), matmul.m, matmul.n, matmul.c_stride,
             static_cast<T*>(matmul.c));
    });
  }
  gemm(stream, matmul);
}

}  // namespace sg::cuda
