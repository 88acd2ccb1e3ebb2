// The matmuls that cuBLASLt refuses: of odd sizes, or at addresses that it cannot load from.
#pragma once
#include "core/cuda/gemm.h"

namespace sg::cuda {

// A matmul without bias and bias_grad, of any sizes, strides and alignments: tiles in shared
// memory, sums in f32 in the order of the terms. It takes many times as long as cuBLASLt.
void simple_gemm(Stream& stream, const Gemm& matmul);

// Bytes that it reads and writes beyond reading a and b and writing c once: a is read again for
// each column of tiles, b for each row of them.
double simple_gemm_extra_bytes(const Gemm& matmul);

}  // namespace sg::cuda
