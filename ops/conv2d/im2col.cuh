// Windows of a map as rows of a matrix, and back, for conv2d_cuda.cu. A row has room for whole
// accesses of 16 bytes; what is beyond the window holds zeros.
#pragma once
#include "core/cuda/kernel.cuh"
#include "ops/conv2d/conv2d.h"

namespace sg::conv2d_cuda {

struct Windows {
  int64_t batch;
  int height, width, channels;  // of the map
  int rows, columns;            // of windows, an image
  int kernel_height, kernel_width;
  int stride, top, left;
  int pitch;  // elements of a matrix row

  constexpr int size() const { return kernel_height * kernel_width * channels; }
  constexpr int64_t windows() const { return int64_t{rows} * columns; }  // an image
};

template <class T>
constexpr int kWide = 16 / int(sizeof(T));  // elements of the widest access
constexpr int kThreads = 256;

template <class T>
Windows windows_of(In x, In w, In y, const Conv2dGeometry& g) {
  Windows v{.batch = x.dim(0),
            .height = int(x.dim(1)),
            .width = int(x.dim(2)),
            .channels = int(x.dim(3)),
            .rows = int(y.dim(1)),
            .columns = int(y.dim(2)),
            .kernel_height = int(w.dim(1)),
            .kernel_width = int(w.dim(2)),
            .stride = g.stride,
            .top = g.top,
            .left = g.left,
            .pitch = 0};
  v.pitch = int(cuda::ceil_div(v.size(), kWide<T>)) * kWide<T>;
  return v;
}

// grid (lines of windows, parts of a line); a thread makes one access of the matrix. `Whole`: no
// access spans two pixels.
template <class T, bool Whole>
__global__ void __launch_bounds__(kThreads) gather_kernel(Windows v, const T* x, T* matrix) {
  constexpr int N = kWide<T>;
  const int line_size = v.pitch / N;
  const int i = int(blockIdx.y) * kThreads + int(threadIdx.x);
  const int column = i / line_size, begin = i % line_size * N;
  if (column >= v.columns) return;
  const int64_t image = blockIdx.x / unsigned(v.rows);
  const int row = int(blockIdx.x % unsigned(v.rows));
  const T* const from = x + image * v.height * v.width * v.channels;
  // The address of an element of the window; null outside of the map.
  const auto at = [&](int element) -> const T* {
    const int tap = element / v.channels, c = element % v.channels;
    const int ky = tap / v.kernel_width, kx = tap % v.kernel_width;
    const int r = row * v.stride - v.top + ky, q = column * v.stride - v.left + kx;
    const bool inside = ky < v.kernel_height && 0 <= r && r < v.height && 0 <= q && q < v.width;
    return inside ? from + (int64_t{r} * v.width + q) * v.channels + c : nullptr;
  };
  cuda::Vec<T, N> out{};
  if constexpr (Whole) {
    if (const T* p = at(begin)) out = cuda::load<N>(p);
  } else {
#pragma unroll
    for (int j = 0; j < N; ++j)
      if (const T* p = at(begin + j)) out[j] = *p;
  }
  const int64_t to = (int64_t{blockIdx.x} * v.columns + column) * v.pitch + begin;
  cuda::store<N>(matrix + to, out);
}

// The transpose: an element of dx adds what all windows that hold it have for it, in their order.
// grid (lines of dx, parts of a line).
template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    scatter_kernel(Windows v, const T* matrix, T* dx, bool accumulate) {
  const int i = (int(blockIdx.y) * kThreads + int(threadIdx.x)) * N;
  const int q = i / v.channels, c = i % v.channels;
  if (q >= v.width) return;
  const int64_t image = blockIdx.x / unsigned(v.height);
  const int r = int(blockIdx.x % unsigned(v.height));
  const T* const from = matrix + image * v.windows() * v.pitch + c;
  T* const to = dx + int64_t{blockIdx.x} * v.width * v.channels + i;
  cuda::Vec<float, N> sum{};
  if (accumulate) sum = cuda::load_float<N>(to);
  for (int ky = 0; ky < v.kernel_height; ++ky) {
    const int above = r + v.top - ky, row = above / v.stride;
    if (above < 0 || above % v.stride != 0 || row >= v.rows) continue;
    for (int kx = 0; kx < v.kernel_width; ++kx) {
      const int before = q + v.left - kx, column = before / v.stride;
      if (before < 0 || before % v.stride != 0 || column >= v.columns) continue;
      const int64_t window = int64_t{row} * v.columns + column;
      const auto more =
          cuda::load_float<N>(from + window * v.pitch + (ky * v.kernel_width + kx) * v.channels);
#pragma unroll
      for (int j = 0; j < N; ++j) sum[j] += more[j];
    }
  }
  cuda::store_float<N>(to, sum);
}

// w (filters, size) with rows as long as the matrix's.
template <class T>
__global__ void __launch_bounds__(kThreads)
    widen_kernel(const T* w, int64_t filters, int size, int pitch, T* to) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= filters * pitch) return;
  const int at = int(i % pitch);
  to[i] = at < size ? w[i / pitch * size + at] : T{};
}

inline unsigned blocks(int64_t threads) { return unsigned(cuda::ceil_div(threads, kThreads)); }

// Windows of `images` images from `x` on.
template <class T>
void gather(Stream& stream, const Windows& v, const T* x, int64_t images, T* matrix) {
  const dim3 grid{unsigned(images * v.rows), blocks(int64_t{v.columns} * v.pitch / kWide<T>)};
  if (v.channels % kWide<T> == 0)
    cuda::launch(stream, {"conv2d.gather", grid, kThreads}, gather_kernel<T, true>, v, x, matrix);
  else
    cuda::launch(stream, {"conv2d.gather", grid, kThreads}, gather_kernel<T, false>, v, x, matrix);
}

template <class T>
void scatter(Stream& stream, const Windows& v, const T* matrix, int64_t images, T* dx,
             bool accumulate) {
  cuda::with_vectors<T>(v.channels, [&](auto width) {
    constexpr int N = decltype(width)::value;
    const dim3 grid{unsigned(images * v.height), blocks(int64_t{v.width} * v.channels / N)};
    cuda::launch(stream, {"conv2d.scatter", grid, kThreads}, scatter_kernel<T, N>, v, matrix, dx,
                 accumulate);
  });
}

// The weights with rows padded to those of the matrix; the weights themselves where they fit.
inline Tensor pad_weight_rows(Stream& stream, In w, const Windows& v) {
  if (v.pitch == v.size()) return w;
  Tensor wide = empty({w.dim(0), v.pitch}, w.dtype(), w.device());
  dispatch<float, bf16>(w.dtype(), "conv2d", [&]<class T>() {
    cuda::launch(stream, {"conv2d.widen", blocks(wide.numel()), kThreads}, widen_kernel<T>,
                 w.data<T>(), w.dim(0), v.size(), v.pitch, wide.data<T>());
  });
  return wide;
}

}  // namespace sg::conv2d_cuda
