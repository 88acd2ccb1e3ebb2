// Matrix products on a CUDA device: cuBLASLt, with the best algorithm for each shape found once and
// kept. Everything is row-major.
#pragma once
#include <cstdint>

#include "core/tensor.h"

namespace sg::cuda {

// A matrix as a product uses it, as sg::Operand of core/cpu/gemm.h: `stride` elements from row to
// row of the memory, which holds the transpose of the operand where `transposed`.
struct GemmOperand {
  const void* data;
  int64_t stride;
  bool transposed = false;
};

struct Gemm {
  int64_t m, n, k;
  Dtype in;          // of a and b: f32 (TF32 off) or bf16; sums are f32
  GemmOperand a, b;  // (m, k), (k, n)
  Dtype out;         // of c: f32, or bf16 where `in` is bf16
  void* c;           // (m, n), rows `c_stride` apart
  int64_t c_stride;
  bool accumulate = false;     // add to what c holds
  const void* bias = nullptr;  // (n), of dtype `out`, added to every row
};

// Same bits at every run. Throws ExitCode::failure naming the shapes where cuBLASLt fails.
void gemm(Stream& stream, const Gemm& product);

}  // namespace sg::cuda
