// Matmuls of bf16 by AMX: gemm() and gemm_on_thread() of core/cpu/gemm.h, for sides of at least 1.
// Only where has_amx().
#pragma once
#include <cstdint>

#include "core/dtype.h"
#include "core/gemm_operand.h"

namespace sg::amx {

// Of shorter sums a tile would be half zeros; oneDNN has smaller ones.
constexpr int64_t kLeastTerms = 32;

// C is bf16 or float.
template <class C>
void gemm(int64_t m, int64_t n, int64_t k, GemmOperand<bf16> a, GemmOperand<bf16> b, C* c,
          bool accumulate, const bf16* bias);
template <class C>
void gemm_on_thread(int64_t m, int64_t n, int64_t k, GemmOperand<bf16> a, GemmOperand<bf16> b, C* c,
                    bool accumulate, const bf16* bias);

}  // namespace sg::amx
