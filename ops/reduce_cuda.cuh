// Sums over all blocks of a kernel: each block writes its part, a second kernel adds the parts in a
// fixed order.
#pragma once
#include "autograd/tape.h"
#include "core/cuda/kernel.cuh"

namespace sg::cuda {

template <class T>
GradPtr<T> grad_ptr(const Grad& g) {
  return {g ? g.tensor.data<T>() : nullptr, g.accumulate};
}

template <int K>
struct SumOutputs {
  GradPtr<float> to[K];
};

// A block adds 32 columns: warp r parts r, r + 32, ..., then the 32 warps' sums as a tree.
template <int K>
__global__ void __launch_bounds__(kWarp* kWarp)
    sum_parts_kernel(const float* parts, int64_t count, int64_t n,
                     const __grid_constant__ SumOutputs<K> outputs) {
  __shared__ float scratch[kWarp][kWarp + 1];
  const GradPtr<float> to = outputs.to[blockIdx.y];
  if (!to) return;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t first = int64_t{blockIdx.x} * kWarp;
  float sum = 0;
  if (first + lane < n) {
#pragma unroll 4
    for (int64_t p = warp; p < count; p += kWarp)
      sum += parts[(p * K + blockIdx.y) * n + first + lane];
  }
  scratch[warp][lane] = sum;
  __syncthreads();
  sum = warp_sum(scratch[lane][warp]);
  if (lane == 0 && first + warp < n) to.put(first + warp, sum);
}

// out[k] (+)= the sum over p of parts[p][k]; parts (P, K, n) f32, each out (n) f32 or not wanted.
template <int K>
void sum_parts(Stream& stream, const char* name, In parts, const Grad (&out)[K]) {
  SumOutputs<K> outputs;
  for (int k = 0; k < K; ++k) outputs.to[k] = grad_ptr<float>(out[k]);
  const int64_t n = parts.dim(-1);
  launch(stream, {name, dim3(unsigned(ceil_div(n, kWarp)), K), kWarp * kWarp}, sum_parts_kernel<K>,
         parts.data<float>(), parts.dim(0), n, outputs);
}

}  // namespace sg::cuda
