// Matmuls on a CUDA device: cuBLASLt, opened at the first one, and a kernel of our own for those
// that it refuses (simple_gemm.h). Everything is row-major.
//
// Two runs give the same bits. So the algorithm for a matmul follows from what the heuristics of
// the library name for its sizes, types and alignments: the same for the same library and GPU. It
// is not the fastest of several in a race, which could end differently in another run and then add
// in another order. Where a long sum is split, its parts are kept as float and added in a step of
// their own; algorithms that add in place, in the order in which blocks finish, are excluded.
//
// The rule: of the algorithms that the heuristics name, best first, the first is taken. A sum of
// more than kLongSum terms takes the first that fills the device, and where none does, the one with
// most waves. An algorithm fills the device where its blocks are at least half a wave, or where it
// splits the sum. (The gradient of a layer's weights has few tiles and a long sum: in SG-Former-S
// at batch 256 two tiles of 128 x 128 and 802,816 terms in stage 1, 64 and 12,544 in stage 4.)
#pragma once
#include <cstdint>

#include "core/gemm_operand.h"
#include "core/tensor.h"

namespace sg::cuda {

struct Gemm {
  int64_t m, n, k;         // none is 0
  Dtype in;                // of a and b: f32 (TF32 off) or bf16; sums are f32
  GemmOperand<void> a, b;  // (m, k), (k, n)
  Dtype out;               // of c: f32, or bf16 where `in` is bf16
  void* c;                 // (m, n), rows `c_stride` apart
  int64_t c_stride;
  bool accumulate = false;     // add to what c holds
  const void* bias = nullptr;  // (n), of dtype `out`, added to every row
  // (m) f32, overwritten with the sums of a's rows: the gradient of a bias, fused into that of
  // the weights, whose a is dy^T. With out f32 and without bias.
  float* bias_grad = nullptr;
};

constexpr int64_t kLongSum = 2048;

// A matmul without bias and bias_grad. Throws ExitCode::usage where cuBLASLt is missing,
// ExitCode::failure naming sizes and types where it fails. What cuBLASLt refuses is done by
// simple_gemm() and counted as a slow path (core/profile.h).
void gemm(Stream& stream, const Gemm& matmul);

// A matmul with its `bias` or `bias_grad` fused. Returns false, and does nothing, if cuBLASLt
// cannot fuse it, or, for a bias_grad of more than kLongSum terms, if no algorithm that fuses it
// fills the device. The caller then does it in a pass of its own (biased_gemm.cuh,
// column_sums.cuh); here it is counted as a slow path.
[[nodiscard]] bool fused_gemm(Stream& stream, const Gemm& matmul);

}  // namespace sg::cuda
