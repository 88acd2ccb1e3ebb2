// Bound by memory. Forward: a thread a vector of channels of the result; its four vectors of x come
// from the caches. Backward: a thread a vector of channels of a column of dx, down some rows of it.
// It passes the rows of dy in order, sums a row's columns, and adds that to the two rows of dx that
// read it: so each vector of dy is loaded twice (by the columns on both sides), and no two threads
// share a sum.
#include <numeric>

#include "core/cuda/kernel.cuh"
#include "ops/bilinear_resize/axis.h"
#include "ops/bilinear_resize/bilinear_resize.h"
#include "ops/reduce_cuda.cuh"

namespace sg {
namespace {

using cuda::Vec;

constexpr int kThreads = 256;

// Some channels of the pixels of a map: pixel i has them at i * stride + begin.
struct Channels {
  int count, stride, begin;
};

// Blocks of one row follow each other: `chunks` of them for its vectors.
struct RowSplit {
  int vectors;  // of a pixel
  unsigned chunks;
};
RowSplit split_row(int64_t pixels, int64_t vectors) {
  return {int(vectors), unsigned(cuda::ceil_div(pixels * vectors, kThreads))};
}

// f(N) for vectors that divide the channels, and where they begin, on both sides.
template <class T, class F>
void with_channels(const Channels& c, const F& f) {
  cuda::with_vectors<T>(std::gcd(c.count, std::gcd(c.stride, c.begin)), f);
}

BilinearAxis axis(int64_t in, int64_t out) { return {unsigned(in), unsigned(out)}; }

template <int N>
__device__ void multiply_add(float w, const Vec<float, N>& v, Vec<float, N>& sum) {
#pragma unroll
  for (int n = 0; n < N; ++n) sum[n] = fmaf(w, v[n], sum[n]);
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(const T* x, const T* base, T* y, BilinearAxis rows, BilinearAxis columns,
                   Channels channels, RowSplit split) {
  const unsigned line = blockIdx.x / split.chunks;  // of all images of the result
  const unsigned place = blockIdx.x % split.chunks * kThreads + threadIdx.x;
  const unsigned j = place / unsigned(split.vectors);
  if (j >= columns.out) return;
  const int c = int(place % unsigned(split.vectors)) * N;
  const unsigned i = line % rows.out, top = rows.at(i), left = columns.at(j);
  const float v = rows.t<float>(i, top), u = columns.t<float>(j, left);
  const T* const image = x + int64_t{line / rows.out} * rows.in * columns.in * channels.count + c;
  const auto pixel = [&](unsigned row, unsigned column) {
    return cuda::load_float<N>(image + (int64_t{row} * columns.in + column) * channels.count);
  };
  const auto a = pixel(top, left), b = pixel(top, columns.next(left));
  const auto d = pixel(rows.next(top), left), e = pixel(rows.next(top), columns.next(left));
  const int64_t at = (int64_t{line} * columns.out + j) * channels.stride + channels.begin + c;
  Vec<float, N> sum{};
  if (base) sum = cuda::load_float<N>(base + at);
  multiply_add((1 - v) * (1 - u), a, sum), multiply_add((1 - v) * u, b, sum);
  multiply_add(v * (1 - u), d, sum), multiply_add(v * u, e, sum);
  cuda::store_float<N>(y + at, sum);
}

// grid: images, chunks of `chunk_rows` rows of dx, and of a row's vectors.
template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(const T* dy, cuda::GradPtr<T> dx, BilinearAxis rows, BilinearAxis columns,
                    Channels channels, RowSplit split, unsigned chunk_rows) {
  const unsigned row_chunks = (rows.in + chunk_rows - 1) / chunk_rows;
  const unsigned chunk = blockIdx.x / split.chunks, image = chunk / row_chunks;
  const unsigned place = blockIdx.x % split.chunks * kThreads + threadIdx.x;
  const unsigned q = place / unsigned(split.vectors);
  if (q >= columns.in) return;
  const int c = int(place % unsigned(split.vectors)) * N;
  const unsigned begin = chunk % row_chunks * chunk_rows;
  const unsigned end = std::min(begin + chunk_rows, rows.in);

  // Columns [left, middle) of dy read q as their second, [middle, right) as their first.
  const unsigned left = columns.first(q ? q - 1 : 0), middle = columns.first(q);
  const unsigned right = columns.first(q + 1);
  const bool last = columns.next(q) == q;
  const T* const from =
      dy + int64_t{image} * rows.out * columns.out * channels.stride + channels.begin + c;
  Vec<float, N> here{}, below{};  // of rows r and r + 1
  for (unsigned r = begin ? begin - 1 : 0; r < end; ++r) {
    for (unsigned i = rows.first(r); i < rows.first(r + 1); ++i) {
      Vec<float, N> sum{};
#pragma unroll 4
      for (unsigned j = left; j < right; ++j) {
        const float t = columns.t<float>(j, j < middle ? q - 1 : q);
        multiply_add(j < middle ? t
                     : last     ? 1.0f
                                : 1 - t,
                     cuda::load_float<N>(from + (int64_t{i} * columns.out + j) * channels.stride),
                     sum);
      }
      const float t = rows.next(r) == r ? 0.0f : rows.t<float>(i, r);
      multiply_add(1 - t, sum, here), multiply_add(t, sum, below);
    }
    if (r >= begin)
      dx.put(((int64_t{image} * rows.in + r) * columns.in + q) * channels.count + c, here);
    here = below, below = {};
  }
}

void forward(Stream& stream, In x, In base, int64_t begin, Out y) {
  const BilinearAxis rows = axis(x.dim(1), y.dim(1)), columns = axis(x.dim(2), y.dim(2));
  const Channels channels{int(x.dim(3)), int(y.dim(3)), int(begin)};
  dispatch<float, bf16>(x.dtype(), "bilinear_resize", [&]<class T>() {
    with_channels<T>(channels, [&](auto width) {
      constexpr int N = decltype(width)::value;
      const RowSplit split = split_row(columns.out, channels.count / N);
      const auto grid = unsigned(y.dim(0) * y.dim(1)) * split.chunks;
      cuda::launch(stream, {"bilinear_resize.fwd", grid, kThreads}, forward_kernel<T, N>,
                   x.data<T>(), base ? base.data<T>() : nullptr, y.data<T>(), rows, columns,
                   channels, split);
    });
  });
}

// Many rows a thread, so that few rows of dy are read by two chunks, unless that leaves a GPU with
// too few blocks.
unsigned rows_of_chunk(int64_t images, int64_t rows, unsigned blocks_of_row) {
  constexpr int64_t kEnoughBlocks = 1024, kFewestRows = 4;
  int64_t chunk = rows;
  while (chunk > kFewestRows &&
         images * cuda::ceil_div(rows, chunk) * blocks_of_row < kEnoughBlocks)
    chunk = cuda::ceil_div(chunk, 2);
  return unsigned(chunk);
}

void backward(Stream& stream, In dy, int64_t begin, Grad dx) {
  const Out to = dx.tensor;
  const BilinearAxis rows = axis(to.dim(1), dy.dim(1)), columns = axis(to.dim(2), dy.dim(2));
  const Channels channels{int(to.dim(3)), int(dy.dim(3)), int(begin)};
  dispatch<float, bf16>(dy.dtype(), "bilinear_resize", [&]<class T>() {
    with_channels<T>(channels, [&](auto width) {
      constexpr int N = decltype(width)::value;
      const RowSplit split = split_row(columns.in, channels.count / N);
      const unsigned chunk = rows_of_chunk(to.dim(0), rows.in, split.chunks);
      const auto grid = unsigned(to.dim(0) * cuda::ceil_div(rows.in, chunk)) * split.chunks;
      cuda::launch(stream, {"bilinear_resize.bwd", grid, kThreads}, backward_kernel<T, N>,
                   dy.data<T>(), cuda::grad_ptr<T>(dx), rows, columns, channels, split, chunk);
    });
  });
}

const Register r_fwd{kernels::bilinear_resize_fwd, DeviceType::cuda, forward};
const Register r_bwd{kernels::bilinear_resize_bwd, DeviceType::cuda, backward};

}  // namespace
}  // namespace sg
