// Matrix products on a CUDA device: cuBLASLt, opened at the first product. Everything is row-major.
//
// Two runs give the same bits. So the algorithm for a product is the first that the heuristics of
// the library name for its sizes, types and alignments: the same for the same library and card.
// It is not the fastest of several in a race, which could end differently in another run and then
// add in another order. Where a long sum is split, its parts are kept as float and added in a step
// of their own; algorithms that add in place, in the order in which blocks finish, are excluded.
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
  int64_t m, n, k;   // none is 0
  Dtype in;          // of a and b: f32 (TF32 off) or bf16; sums are f32
  GemmOperand a, b;  // (m, k), (k, n)
  Dtype out;         // of c: f32, or bf16 where `in` is bf16
  void* c;           // (m, n), rows `c_stride` apart
  int64_t c_stride;
  bool accumulate = false;     // add to what c holds
  const void* bias = nullptr;  // (n), of dtype `out`, added to every row
  // (m) f32, overwritten with the sums of a's rows: the gradient of a bias, on the way to that of
  // the weights, whose a is dy^T. With out f32 and without bias.
  float* bias_grad = nullptr;
};

// Throws ExitCode::usage where cuBLASLt is missing, ExitCode::failure naming sizes and types where
// it fails. With `bias` or `bias_grad` only where fuses() says so: then what they ask for is to be
// done in a pass of its own (biased_gemm.cuh, column_sums.cuh).
void gemm(Stream& stream, const Gemm& product);

// Does the library do `bias` or `bias_grad` on the way? The gradient has to be worth it too: its
// algorithm must fill the device as well as the best without it does. `product` is as it would be
// given to gemm(). The first product of a kind (f32 or bf16, bias or gradient) that is refused is
// logged.
bool fuses(Stream& stream, const Gemm& product);

}  // namespace sg::cuda
