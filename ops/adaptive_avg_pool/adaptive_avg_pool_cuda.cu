// A thread a vector of channels: of a bin forward, of a pixel of dx backward. The maps are small.
// Small blocks forward, so that the few bins reach all processors.
#include "core/cuda/kernel.cuh"
#include "ops/adaptive_avg_pool/adaptive_avg_pool.h"
#include "ops/adaptive_avg_pool/bins.h"
#include "ops/reduce_cuda.cuh"

namespace sg {
namespace {

constexpr int kForwardThreads = 64, kBackwardThreads = 256;

struct Sizes {
  int height, width, side, channels;
};

template <class T, int N>
__global__ void __launch_bounds__(kForwardThreads)
    forward_kernel(const T* x, T* y, int64_t vectors, Sizes s) {
  const int64_t i = int64_t{blockIdx.x} * kForwardThreads + threadIdx.x;
  if (i >= vectors) return;
  const int64_t bin = i * N / s.channels;
  const Bin rows = positions_of(int(bin / s.side % s.side), s.side, s.height);
  const Bin columns = positions_of(int(bin % s.side), s.side, s.width);
  const T* const from =
      x + bin / s.side / s.side * s.height * s.width * s.channels + i * N % s.channels;
  cuda::Vec<float, N> sum{};
  for (int r = rows.begin; r < rows.end; ++r) {
    cuda::Vec<float, N> of_row{};
#pragma unroll 8
    for (int q = columns.begin; q < columns.end; ++q) {
      const auto v = cuda::load_float<N>(from + (int64_t{r} * s.width + q) * s.channels);
#pragma unroll
      for (int n = 0; n < N; ++n) of_row[n] += v[n];
    }
#pragma unroll
    for (int n = 0; n < N; ++n) sum[n] += of_row[n];
  }
#pragma unroll
  for (int n = 0; n < N; ++n) sum[n] /= float(rows.size()) * float(columns.size());
  cuda::store_float<N>(y + i * N, sum);
}

template <class T, int N>
__global__ void __launch_bounds__(kBackwardThreads)
    backward_kernel(const T* dy, cuda::GradPtr<T> dx, int64_t vectors, Sizes s) {
  const int64_t i = int64_t{blockIdx.x} * kBackwardThreads + threadIdx.x;
  if (i >= vectors) return;
  const int64_t pixel = i * N / s.channels;
  const Bin rows = positions_of(int(pixel / s.width % s.height), s.height, s.side);
  const Bin columns = positions_of(int(pixel % s.width), s.width, s.side);
  const T* const from =
      dy + pixel / s.width / s.height * s.side * s.side * s.channels + i * N % s.channels;
  cuda::Vec<float, N> sum{};
  for (int r = rows.begin; r < rows.end; ++r)
    for (int q = columns.begin; q < columns.end; ++q) {
      const float pixels = float(positions_of(r, s.side, s.height).size()) *
                           float(positions_of(q, s.side, s.width).size());
      const auto v = cuda::load_float<N>(from + int64_t{r * s.side + q} * s.channels);
#pragma unroll
      for (int n = 0; n < N; ++n) sum[n] += v[n] / pixels;
    }
  dx.put(i * N, sum);
}

Sizes sizes_of(const Shape& x, int64_t side) {
  return {int(x[1]), int(x[2]), int(side), int(x[3])};
}

void forward(Stream& stream, In x, Out y) {
  const Sizes s = sizes_of(x.shape(), y.dim(1));
  dispatch<float, bf16>(x.dtype(), "adaptive_avg_pool", [&]<class T>() {
    cuda::with_vectors<T>(s.channels, [&](auto width) {
      constexpr int N = decltype(width)::value;
      const int64_t vectors = y.numel() / N;
      const auto grid = unsigned(cuda::ceil_div(vectors, kForwardThreads));
      cuda::launch(stream, {"adaptive_avg_pool.fwd", grid, kForwardThreads}, forward_kernel<T, N>,
                   x.data<T>(), y.data<T>(), vectors, s);
    });
  });
}

void backward(Stream& stream, In dy, Grad dx) {
  const Sizes s = sizes_of(dx.tensor.shape(), dy.dim(1));
  dispatch<float, bf16>(dy.dtype(), "adaptive_avg_pool", [&]<class T>() {
    cuda::with_vectors<T>(s.channels, [&](auto width) {
      constexpr int N = decltype(width)::value;
      const int64_t vectors = dx.tensor.numel() / N;
      const auto grid = unsigned(cuda::ceil_div(vectors, kBackwardThreads));
      cuda::launch(stream, {"adaptive_avg_pool.bwd", grid, kBackwardThreads}, backward_kernel<T, N>,
                   dy.data<T>(), cuda::grad_ptr<T>(dx), vectors, s);
    });
  });
}

const Register r_fwd{kernels::adaptive_avg_pool_fwd, DeviceType::cuda, forward};
const Register r_bwd{kernels::adaptive_avg_pool_bwd, DeviceType::cuda, backward};

}  // namespace
}  // namespace sg
