// Bound by memory: a thread a vector of channels of the result forward, of dx backward, which sums
// all those of dy that read it.
#include "core/cuda/kernel.cuh"
#include "ops/nearest_resize/axis.h"
#include "ops/nearest_resize/nearest_resize.h"
#include "ops/reduce_cuda.cuh"

namespace sg {
namespace {

constexpr int kThreads = 256;

// Where a thread works: blocks of one line (a row of an image) follow each other.
struct Place {
  int64_t line;
  int column, channel;
};
template <int N>
__device__ Place place(unsigned chunks, int channels) {
  const unsigned vectors = unsigned(channels / N);
  const unsigned i = blockIdx.x % chunks * kThreads + threadIdx.x;
  return {blockIdx.x / chunks, int(i / vectors), int(i % vectors) * N};
}
template <int N>
unsigned chunks_of(int64_t columns, int64_t channels) {
  return unsigned(cuda::ceil_div(columns * channels / N, kThreads));
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(const T* x, const T* base, T* y, NearestAxis rows, NearestAxis columns,
                   int channels, unsigned chunks) {
  const Place p = place<N>(chunks, channels);
  if (p.column >= columns.out) return;
  const int64_t row = p.line / rows.out * rows.in + rows.at(p.line % rows.out);
  const int64_t from = (row * columns.in + columns.at(p.column)) * channels + p.channel;
  const int64_t to = (p.line * columns.out + p.column) * channels + p.channel;
  if (!base) return cuda::store<N>(y + to, cuda::load<N>(x + from));
  auto sum = cuda::load_float<N>(x + from);
  const auto more = cuda::load_float<N>(base + to);
#pragma unroll
  for (int n = 0; n < N; ++n) sum[n] += more[n];
  cuda::store_float<N>(y + to, sum);
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(const T* dy, cuda::GradPtr<T> dx, NearestAxis rows, NearestAxis columns,
                    int channels, unsigned chunks) {
  const Place p = place<N>(chunks, channels);
  if (p.column >= columns.in) return;
  const int64_t image = p.line / rows.in, r = p.line % rows.in;
  const int bottom = int(rows.first(r + 1)), right = int(columns.first(p.column + 1));
  const int left = int(columns.first(p.column));
  const T* const from = dy + image * rows.out * columns.out * channels + p.channel;
  cuda::Vec<float, N> sum{};
  for (int i = int(rows.first(r)); i < bottom; ++i)
#pragma unroll 4
    for (int j = left; j < right; ++j) {
      const auto v = cuda::load_float<N>(from + (i * columns.out + j) * channels);
#pragma unroll
      for (int n = 0; n < N; ++n) sum[n] += v[n];
    }
  dx.put((p.line * columns.in + p.column) * channels + p.channel, sum);
}

void forward(Stream& stream, In x, In base, Out y) {
  const NearestAxis rows(x.dim(1), y.dim(1)), columns(x.dim(2), y.dim(2));
  dispatch<float, bf16>(x.dtype(), "nearest_resize", [&]<class T>() {
    cuda::with_vectors<T>(x.dim(3), [&](auto width) {
      constexpr int N = decltype(width)::value;
      const unsigned chunks = chunks_of<N>(columns.out, x.dim(3));
      const auto grid = unsigned(y.dim(0) * rows.out) * chunks;
      cuda::launch(stream, {"nearest_resize.fwd", grid, kThreads}, forward_kernel<T, N>,
                   x.data<T>(), base ? base.data<T>() : nullptr, y.data<T>(), rows, columns,
                   int(x.dim(3)), chunks);
    });
  });
}

void backward(Stream& stream, In dy, Grad dx) {
  const Out to = dx.tensor;
  const NearestAxis rows(to.dim(1), dy.dim(1)), columns(to.dim(2), dy.dim(2));
  dispatch<float, bf16>(dy.dtype(), "nearest_resize", [&]<class T>() {
    cuda::with_vectors<T>(to.dim(3), [&](auto width) {
      constexpr int N = decltype(width)::value;
      const unsigned chunks = chunks_of<N>(columns.in, to.dim(3));
      const auto grid = unsigned(to.dim(0) * rows.in) * chunks;
      cuda::launch(stream, {"nearest_resize.bwd", grid, kThreads}, backward_kernel<T, N>,
                   dy.data<T>(), cuda::grad_ptr<T>(dx), rows, columns, int(to.dim(3)), chunks);
    });
  });
}

const Register r_fwd{kernels::nearest_resize_fwd, DeviceType::cuda, forward};
const Register r_bwd{kernels::nearest_resize_bwd, DeviceType::cuda, backward};

}  // namespace
}  // namespace sg
