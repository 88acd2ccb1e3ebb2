// One pass: a thread a vector of channels of a pixel; the factors come from the caches.
#include "ops/dropout2d/dropout2d.h"
#include "ops/reduce_cuda.cuh"

namespace sg {
namespace {

constexpr int kThreads = 256;

template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    kernel(const T* x, const float* keep, cuda::GradPtr<T> y, int64_t vectors, int64_t pixels,
           int channels) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= vectors) return;
  const int64_t pixel = i / (channels / N);
  const int c = int(i % (channels / N)) * N;
  auto v = cuda::load_float<N>(x + i * N);
  const auto factors = cuda::load<N>(keep + pixel / pixels * channels + c);
#pragma unroll
  for (int n = 0; n < N; ++n) v[n] *= factors[n];
  y.put(i * N, v);
}

void scale_channels(Stream& stream, In x, In keep, Grad y) {
  const int64_t pixels = x.dim(1) * x.dim(2);
  dispatch<float, bf16>(x.dtype(), "dropout2d", [&]<class T>() {
    cuda::with_vectors<T>(x.dim(3), [&](auto width) {
      constexpr int N = decltype(width)::value;
      const int64_t vectors = x.numel() / N;
      const auto grid = unsigned(cuda::ceil_div(vectors, kThreads));
      cuda::launch(stream, {"dropout2d", grid, kThreads}, kernel<T, N>, x.data<T>(),
                   keep.data<float>(), cuda::grad_ptr<T>(y), vectors, pixels, int(x.dim(3)));
    });
  });
}

const Register r{kernels::dropout2d, DeviceType::cuda, scale_channels};

}  // namespace
}  // namespace sg
