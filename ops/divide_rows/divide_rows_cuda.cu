// A thread a vector of one row.
#include "core/cuda/kernel.cuh"
#include "ops/divide_rows/divide_rows.h"

namespace sg {
namespace {

constexpr int kThreads = 256;

template <int N>
__global__ void __launch_bounds__(kThreads)
    divide_kernel(float* x, const float* divisors, int64_t vectors, int64_t c) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= vectors) return;
  auto v = cuda::load<N>(x + i * N);
  const float divisor = divisors[i * N / c];
#pragma unroll
  for (int j = 0; j < N; ++j) v[j] /= divisor;
  cuda::store<N>(x + i * N, v);
}

void divide(Stream& stream, Out x, In divisors) {
  cuda::with_vectors<float>(x.dim(1), [&](auto width) {
    constexpr int N = decltype(width)::value;
    const int64_t vectors = x.numel() / N;
    cuda::launch(stream, {"divide_rows", unsigned(cuda::ceil_div(vectors, kThreads)), kThreads},
                 divide_kernel<N>, x.data<float>(), divisors.data<float>(), vectors, x.dim(1));
  });
}

const Register r{kernels::divide_rows, DeviceType::cuda, divide};

}  // namespace
}  // namespace sg
