// Matmuls on row-major memory: float by oneDNN, double by OpenBLAS.
#pragma once
#include <cstdint>

namespace sg {

// A matrix as a product uses it. `stride` is the distance between rows of the memory, which holds
// the transpose of the operand where `transposed`.
template <class T>
struct Operand {
  const T* data;
  int64_t stride;
  bool transposed = false;
};

// c (m, n; rows n apart) = a (m, k) b (k, n), plus c itself if `accumulate`, plus bias (n) if
// given. By all threads, with the same bits for any number of them; not within a parallel loop. T
// is float or double.
template <class T>
void gemm(int64_t m, int64_t n, int64_t k, Operand<T> a, Operand<T> b, T* c,
          bool accumulate = false, const T* bias = nullptr);

// The same on the calling thread alone: for the indices of a parallel loop.
template <class T>
void gemm_on_thread(int64_t m, int64_t n, int64_t k, Operand<T> a, Operand<T> b, T* c,
                    bool accumulate = false);

}  // namespace sg
