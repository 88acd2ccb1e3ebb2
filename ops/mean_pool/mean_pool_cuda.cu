// One pass over the map each way. Forward: a thread a vector of channels of one image, which adds
// its tokens in order, loads of kAhead tokens under way at a time; small blocks, so that the few
// there are (a batch of the last stage) reach all processors. Backward: a thread a vector of dx.
#include "ops/mean_pool/mean_pool.h"
#include "ops/reduce_cuda.cuh"

namespace sg {
namespace {

constexpr int kForwardThreads = 64, kBackwardThreads = 256, kAhead = 8;

template <class T, int N>
__global__ void __launch_bounds__(kForwardThreads)
    forward_kernel(const T* x, T* y, int64_t vectors, int64_t tokens, int64_t c) {
  const int64_t i = int64_t{blockIdx.x} * kForwardThreads + threadIdx.x;
  if (i >= vectors) return;
  const T* from = x + i * N / c * tokens * c + i * N % c;
  cuda::Vec<float, N> sum{};
  for (int64_t t = 0; t < tokens; t += kAhead) {
    cuda::Vec<T, N> next[kAhead];
#pragma unroll
    for (int k = 0; k < kAhead; ++k)
      if (t + k < tokens) next[k] = cuda::load<N>(from + (t + k) * c);
#pragma unroll
    for (int k = 0; k < kAhead; ++k)
      if (t + k < tokens)
        for (int j = 0; j < N; ++j) sum[j] += cuda::to_float(next[k][j]);
  }
#pragma unroll
  for (int j = 0; j < N; ++j) sum[j] /= float(tokens);
  cuda::store_float<N>(y + i * N, sum);
}

template <class T, int N>
__global__ void __launch_bounds__(kBackwardThreads)
    backward_kernel(const T* dy, cuda::GradPtr<T> dx, int64_t vectors, int64_t tokens, int64_t c) {
  const int64_t i = int64_t{blockIdx.x} * kBackwardThreads + threadIdx.x;
  if (i >= vectors) return;
  const int64_t token = i * N / c;
  auto v = cuda::load_float<N>(dy + token / tokens * c + i * N % c);
#pragma unroll
  for (int j = 0; j < N; ++j) v[j] /= float(tokens);
  dx.put(i * N, v);
}

void forward(Stream& stream, In x, Out y) {
  const int64_t tokens = x.dim(1) * x.dim(2), c = x.dim(3);
  dispatch<float, bf16>(x.dtype(), "mean_pool", [&]<class T>() {
    cuda::with_vectors<T>(c, [&](auto width) {
      constexpr int N = decltype(width)::value;
      const int64_t vectors = y.numel() / N;
      const auto grid = unsigned(cuda::ceil_div(vectors, kForwardThreads));
      cuda::launch(stream, {"mean_pool.fwd", grid, kForwardThreads}, forward_kernel<T, N>,
                   x.data<T>(), y.data<T>(), vectors, tokens, c);
    });
  });
}

void backward(Stream& stream, In dy, Grad dx) {
  const int64_t tokens = dx.tensor.dim(1) * dx.tensor.dim(2), c = dy.dim(1);
  dispatch<float, bf16>(dy.dtype(), "mean_pool", [&]<class T>() {
    cuda::with_vectors<T>(c, [&](auto width) {
      constexpr int N = decltype(width)::value;
      const int64_t vectors = dx.tensor.numel() / N;
      const auto grid = unsigned(cuda::ceil_div(vectors, kBackwardThreads));
      cuda::launch(stream, {"mean_pool.bwd", grid, kBackwardThreads}, backward_kernel<T, N>,
                   dy.data<T>(), cuda::grad_ptr<T>(dx), vectors, tokens, c);
    });
  });
}

const Register r0{kernels::mean_pool_fwd, DeviceType::cuda, forward};
const Register r1{kernels::mean_pool_bwd, DeviceType::cuda, backward};

}  // namespace
}  // namespace sg
