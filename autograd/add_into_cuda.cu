#include "autograd/add_into.h"
#include "core/cuda/kernel.cuh"

namespace sg {
namespace {

template <class T, int N>
__global__ void add_into_kernel(const T* x, T* y, int64_t vectors) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= vectors) return;
  auto sum = cuda::load_float<N>(y + i * N);
  const auto more = cuda::load_float<N>(x + i * N);
#pragma unroll
  for (int j = 0; j < N; ++j) sum[j] += more[j];
  cuda::store_float<N>(y + i * N, sum);
}

void add_into(Stream& stream, In x, Out y) {
  constexpr int kThreads = 256;
  dispatch<float, bf16>(y.dtype(), "add_into", [&]<class T>() {
    cuda::with_vectors<T>(y.numel(), [&](auto width) {
      constexpr int N = decltype(width)::value;
      const int64_t vectors = y.numel() / N;
      cuda::launch(stream, {"add_into", unsigned(cuda::ceil_div(vectors, kThreads)), kThreads},
                   add_into_kernel<T, N>, x.data<T>(), y.data<T>(), vectors);
    });
  });
}
const Register r{kernels::add_into, DeviceType::cuda, add_into};

}  // namespace
}  // namespace sg
