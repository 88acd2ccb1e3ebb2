#pragma once
#include <cstdint>

#include "core/dtype.h"
#include "core/gemm_operand.h"

namespace sg {

// A matrix b (k, n) as oneDNN's bf16 matmuls read it: blocks of `width` columns, in a block the
// rows in pairs, and the two values of a column side by side. Zeros fill the last block, and the
// rows up to a multiple of 32. oneDNN calls it BA16a64b2a, where 64 is the width.
struct PackedLayout {
  int64_t k, n;
  int64_t width() const { return n < 64 ? (n + 15) / 16 * 16 : 64; }
  int64_t blocks() const { return (n + width() - 1) / width(); }
  int64_t block_size() const { return (k + 31) / 32 * 32 * width(); }
};

// Writes all blocks of b to `to`, by all threads.
void pack(const PackedLayout& layout, GemmOperand<bf16> b, bf16* to);

}  // namespace sg
