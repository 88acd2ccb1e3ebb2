// Matmuls on row-major memory: float and bf16 by oneDNN, double by OpenBLAS. Operands and bias are
// of S; c is of S, or of AccType<S> (a gradient of weights). Sums are of AccType<S>.
#pragma once
#include <cstdint>

#include "core/acc_type.h"
#include "core/gemm_operand.h"

namespace sg {

// c (m, n; rows n apart) = a (m, k) b (k, n), plus c itself if `accumulate`, plus bias (n) if
// given. By all threads, with the same bits for any number of them; not within a parallel loop.
template <class S, class C>
void gemm(int64_t m, int64_t n, int64_t k, GemmOperand<S> a, GemmOperand<S> b, C* c,
          bool accumulate = false, const S* bias = nullptr);

// The same on the calling thread alone: for the indices of a parallel loop.
template <class S, class C>
void gemm_on_thread(int64_t m, int64_t n, int64_t k, GemmOperand<S> a, GemmOperand<S> b, C* c,
                    bool accumulate = false, const S* bias = nullptr);

}  // namespace sg
