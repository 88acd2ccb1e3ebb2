// One pass each: a thread a vector.
#include "ops/reduce_cuda.cuh"
#include "ops/relu/relu.h"

namespace sg {
namespace {

constexpr int kThreads = 256;

template <class T, int N>
__global__ void __launch_bounds__(kThreads) forward_kernel(const T* x, T* y, int64_t vectors) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= vectors) return;
  auto v = cuda::load_float<N>(x + i * N);
#pragma unroll
  for (int n = 0; n < N; ++n) v[n] = v[n] < 0 ? 0.0f : v[n];
  cuda::store_float<N>(y + i * N, v);
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(const T* dy, const T* y, cuda::GradPtr<T> dx, int64_t vectors) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= vectors) return;
  const auto mask = cuda::load_float<N>(y + i * N);
  auto v = cuda::load_float<N>(dy + i * N);
#pragma unroll
  for (int n = 0; n < N; ++n) v[n] = mask[n] > 0 ? v[n] : 0.0f;
  dx.put(i * N, v);
}

void forward(Stream& stream, In x, Out y) {
  dispatch<float, bf16>(x.dtype(), "relu", [&]<class T>() {
    cuda::with_vectors<T>(x.numel(), [&](auto width) {
      constexpr int N = decltype(width)::value;
      const int64_t vectors = x.numel() / N;
      cuda::launch(stream, {"relu.fwd", unsigned(cuda::ceil_div(vectors, kThreads)), kThreads},
                   forward_kernel<T, N>, x.data<T>(), y.data<T>(), vectors);
    });
  });
}

void backward(Stream& stream, In dy, In y, Grad dx) {
  dispatch<float, bf16>(dy.dtype(), "relu", [&]<class T>() {
    cuda::with_vectors<T>(dy.numel(), [&](auto width) {
      constexpr int N = decltype(width)::value;
      const int64_t vectors = dy.numel() / N;
      cuda::launch(stream, {"relu.bwd", unsigned(cuda::ceil_div(vectors, kThreads)), kThreads},
                   backward_kernel<T, N>, dy.data<T>(), y.data<T>(), cuda::grad_ptr<T>(dx),
                   vectors);
    });
  });
}

const Register r_fwd{kernels::relu_fwd, DeviceType::cuda, forward};
const Register r_bwd{kernels::relu_bwd, DeviceType::cuda, backward};

}  // namespace
}  // namespace sg
