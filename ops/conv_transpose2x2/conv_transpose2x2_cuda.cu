// One pass each: a thread a vector of channels of a pixel of y.
#include "core/cuda/column_sums.cuh"
#include "ops/conv_transpose2x2/conv_transpose2x2.h"
#include "ops/reduce_cuda.cuh"

namespace sg {
namespace {

constexpr int kThreads = 256;

// Sides of y, whose pixels are `vectors` vectors each.
struct Sides {
  int64_t total;  // vectors of y
  unsigned w, vectors;
};
template <int N>
Sides sides_of(In y) {
  return {y.numel() / N, unsigned(y.dim(2)), unsigned(y.dim(3) / N)};
}
unsigned blocks_of(const Sides& s) { return unsigned(cuda::ceil_div(s.total, kThreads)); }

// The vector of the pixels (B, H, W, 2, 2, C) that is vector i of y.
__device__ int64_t place_of(const Sides& s, int64_t i) {
  const int64_t pixel = i / s.vectors, line = pixel / s.w;
  const unsigned column = unsigned(pixel % s.w);
  const int64_t source = (line / 2) * (s.w / 2) + column / 2;
  return (source * 4 + line % 2 * 2 + column % 2) * s.vectors + i % s.vectors;
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    spread_kernel(const T* x, const T* b, T* y, Sides sides) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= sides.total) return;
  auto v = cuda::load_float<N>(x + place_of(sides, i) * N);
  const auto bias = cuda::load_float<N>(b + i % sides.vectors * N);
#pragma unroll
  for (int n = 0; n < N; ++n) v[n] += bias[n];
  cuda::store_float<N>(y + i * N, v);
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    gather_kernel(const T* dy, cuda::GradPtr<T> dx, Sides sides) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < sides.total) dx.put(place_of(sides, i) * N, cuda::load_float<N>(dy + i * N));
}

void spread(Stream& stream, In x, In b, Out y) {
  dispatch<float, bf16>(y.dtype(), "conv_transpose2x2", [&]<class T>() {
    cuda::with_vectors<T>(y.dim(3), [&](auto width) {
      constexpr int N = decltype(width)::value;
      const Sides sides = sides_of<N>(y);
      cuda::launch(stream, {"conv_transpose2x2.fwd", blocks_of(sides), kThreads},
                   spread_kernel<T, N>, x.data<T>(), b.data<T>(), y.data<T>(), sides);
    });
  });
}

void gather(Stream& stream, In dy, Grad dx, Grad db) {
  dispatch<float, bf16>(dy.dtype(), "conv_transpose2x2", [&]<class T>() {
    const int64_t c = dy.dim(3);
    if (db) cuda::column_sums(stream, dy.data<T>(), dy.numel() / c, c, cuda::grad_ptr<float>(db));
    if (!dx) return;
    cuda::with_vectors<T>(c, [&](auto width) {
      constexpr int N = decltype(width)::value;
      const Sides sides = sides_of<N>(dy);
      cuda::launch(stream, {"conv_transpose2x2.bwd", blocks_of(sides), kThreads},
                   gather_kernel<T, N>, dy.data<T>(), cuda::grad_ptr<T>(dx), sides);
    });
  });
}

const Register r_fwd{kernels::spread_pixels, DeviceType::cuda, spread};
const Register r_bwd{kernels::gather_pixels, DeviceType::cuda, gather};

}  // namespace
}  // namespace sg
