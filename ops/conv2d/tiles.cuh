// Tiles in shared memory and sums on matrix units, as the kernels of this folder hold them.
#pragma once
#include "core/cuda/kernel.cuh"

namespace sg::conv2d_cuda {

// Rows of `Parts` times 16 bytes in shared memory, an even number: where part `part` of a row lies,
// in elements. Parts are exchanged within a row so that the same part of eight rows that follow
// each other meets all banks.
template <int Parts>
__device__ __forceinline__ int in_shared(int row, int part) {
  constexpr int kBlock = (Parts & -Parts) < 8 ? (Parts & -Parts) : 8;
  return (row * Parts + (part ^ (row / (8 / kBlock) % kBlock))) * 8;
}

// Lane 4 g + t holds columns 2t and 2t + 1 of two groups of eight columns, `even` and `odd`, for
// rows g (half 0) and g + 8. Neighbours exchange halves: the lane gets four columns, from
// first_of_four() on, and four lanes have a row's sixteen.
__device__ __forceinline__ cuda::Vec<float, 4> four_columns(const float (&even)[4],
                                                            const float (&odd)[4], int half) {
  const bool second = threadIdx.x % 2;
  cuda::Vec<float, 4> v;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float own_even = even[2 * half + i], own_odd = odd[2 * half + i];
    const float theirs = cuda::shuffle_xor(second ? own_even : own_odd, 1);
    v[i] = second ? theirs : own_even, v[2 + i] = second ? own_odd : theirs;
  }
  return v;
}
__device__ __forceinline__ int first_of_four() {
  const int t = int(threadIdx.x) % 4;
  return t % 2 * 8 + t / 2 * 4;
}

template <class T>
__device__ __forceinline__ void add_from(cuda::Vec<float, 4>& v, const T* p) {
  const auto more = cuda::load_float<4>(p);
#pragma unroll
  for (int i = 0; i < 4; ++i) v[i] += more[i];
}

}  // namespace sg::conv2d_cuda
