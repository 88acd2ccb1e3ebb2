// What a matmul of bf16 by AMX is made of: operands packed in tiles, the product of two panels, and
// how its sums are stored. Only where has_amx().
#pragma once
#include <cstdint>

#include "core/cpu/amx.h"
#include "core/dtype.h"
#include "core/gemm_operand.h"

namespace sg::amx {

// A panel is kSide rows of the left operand of a matmul, or columns of the right one. Packed, it
// has for each step, kTerms terms of the sum, two tiles of 16 of them, as the instructions read
// them; zeros fill the last ones. A block is the product of two panels, kSide x kSide sums.
constexpr int64_t kSide = 32, kTerms = 32;
constexpr int64_t kStepSize = kSide * kTerms, kBlockSize = kSide * kSide;
constexpr int64_t panels_of(int64_t side) { return (side + kSide - 1) / kSide; }
constexpr int64_t steps_of(int64_t terms) { return (terms + kTerms - 1) / kTerms; }

// Packs the first step of the first panel of a, of which it has `rows` and `terms`, each at most
// 32.
void pack_left(GemmOperand<bf16> a, int64_t rows, int64_t terms, bf16* to);
// The same of b (terms, columns).
void pack_right(GemmOperand<bf16> b, int64_t columns, int64_t terms, bf16* to);

// A left panel: packed, or in place, where all of its kSide rows and kTerms terms exist.
using LeftPanel = TileRows<const std::byte>;
inline LeftPanel packed_panel(const bf16* data) {
  constexpr int64_t kStepBytes = kStepSize * sizeof(bf16);
  return {reinterpret_cast<const std::byte*>(data), kRowBytes, kStepBytes / 2, kStepBytes};
}
inline LeftPanel panel_in_place(const bf16* data, int64_t stride) {
  const int64_t row = stride * int64_t(sizeof(bf16));
  return {reinterpret_cast<const std::byte*>(data), row, kRows * row, kRowBytes};
}

// sums, a block, = left times right, plus sums itself if `accumulate`. In an amx::Scope; sums and
// right are aligned to 64 bytes.
void multiply(const LeftPanel& left, const bf16* right, int64_t steps, float* sums,
              bool accumulate);

// c (rows, columns; rows `stride` apart) = the first of a block's sums, plus c itself if
// `accumulate`, plus bias (columns) if given: rounded once. C is bf16 or float. `streamed` is
// whether whole cache lines of bf16 go to memory past the caches, until finish_stores().
template <class C>
void store_block(const float* sums, int64_t rows, int64_t columns, C* c, int64_t stride,
                 bool accumulate, const bf16* bias, bool streamed);
// Other threads may read what was streamed.
inline void finish_stores() { asm volatile("sfence" ::: "memory"); }

}  // namespace sg::amx
