// Sums of per-chunk partial results, in order of chunk (see core/cpu/parallel.h).
#pragma once
#include "autograd/tape.h"

namespace sg {

// out (+)= sum over chunks of partial[chunk * stride .. + out.numel()).
template <class T>
void sum_chunks(const T* partial, int chunks, int64_t stride, const Grad& out) {
  if (!out) return;
  T* to = out.tensor.data<T>();
  for (int64_t i = 0; i < out.tensor.numel(); ++i) {
    T sum = out.accumulate ? to[i] : T(0);
    for (int c = 0; c < chunks; ++c) sum += partial[c * stride + i];
    to[i] = sum;
  }
}

}  // namespace sg
