// Passes over memory: forward reads x (twice in training: statistics, then y) and writes y;
// backward reads dy and x twice and writes dx.
//
// A thread keeps its vector of channels and walks down the rows in strides, with loads of several
// rows under way, so what belongs to a channel stays in registers.
#include "ops/batch_norm/batch_norm.h"
#include "ops/reduce_cuda.cuh"

namespace sg {
namespace {

constexpr int kThreads = 256;
constexpr int kAhead = 8;  // rows whose loads are under way at a time
// Blocks are started for so many multiprocessors on every GPU, so that sums are split alike.
constexpr int64_t kMaxBlocks = 4 * 132;

struct Tile {
  int64_t rows;
  int vectors, width, lines;  // of a row; of these, that a block has; rows that it takes at once

  __device__ int vector() const { return int(blockIdx.y) * width + int(threadIdx.x) % width; }
  __device__ bool works() const { return int(threadIdx.x) / width < lines && vector() < vectors; }
  // For groups of Ahead rows of the thread: load(k, vector of the tensor), then use(k, vector) for
  // those that are there, then done(how many).
  template <int Ahead, class L, class U, class D>
  __device__ __forceinline__ void each(const L& load, const U& use, const D& done) const {
    const int64_t stride = int64_t{gridDim.x} * lines;
    for (int64_t first = int64_t{blockIdx.x} * lines + int(threadIdx.x) / width; first < rows;
         first += stride * Ahead) {
      int count = 0;
#pragma unroll
      for (int k = 0; k < Ahead; ++k)
        if (const int64_t row = first + k * stride; row < rows)
          load(k, row * vectors + vector()), ++count;
#pragma unroll
      for (int k = 0; k < Ahead; ++k)
        if (k < count) use(k, (first + k * stride) * vectors + vector());
      done(count);
    }
  }
};

// Mean, sum of squared differences from it, and number of values.
struct Moments {
  float mean = 0, square = 0, n = 0;
  __device__ __forceinline__ void merge(const Moments& o) {  // Chan et al.
    if (o.n == 0) return;
    const float delta = o.mean - mean, share = o.n / (n + o.n);
    mean = fmaf(delta, share, mean);
    square += fmaf(delta * delta, share * n, o.square);
    n += o.n;
  }
};

// Of a block's rows: parts (blocks, 3, c): mean, square, n. Means are those of differences from the
// first row of x, so that they lose no digits where the mean is large.
template <class T, int N>
__global__ void __launch_bounds__(kThreads) moments_kernel(const T* x, float* parts, Tile tile) {
  __shared__ float shared[3][N][kThreads];
  Moments own[N];
  if (tile.works()) {
    const auto shift = cuda::load_float<N>(x + int64_t{tile.vector()} * N);
    cuda::Vec<T, N> held[kAhead];
    tile.each<kAhead>([&](int k, int64_t at) { held[k] = cuda::load<N>(x + at * N); },
                      [](int, int64_t) {},
                      [&](int count) {
#pragma unroll
                        for (int j = 0; j < N; ++j) {
                          Moments m{0, 0, float(count)};
#pragma unroll
                          for (int k = 0; k < kAhead; ++k)
                            if (k < count) m.mean += cuda::to_float(held[k][j]) - shift[j];
                          m.mean /= m.n;
#pragma unroll
                          for (int k = 0; k < kAhead; ++k)
                            if (k < count) {
                              const float d = cuda::to_float(held[k][j]) - shift[j] - m.mean;
                              m.square = fmaf(d, d, m.square);
                            }
                          own[j].merge(m);
                        }
                      });
  }
#pragma unroll
  for (int j = 0; j < N; ++j) {
    shared[0][j][threadIdx.x] = own[j].mean;
    shared[1][j][threadIdx.x] = own[j].square;
    shared[2][j][threadIdx.x] = own[j].n;
  }
  __syncthreads();
  const int64_t c = int64_t{tile.vectors} * N;
  for (int i = int(threadIdx.x); i < N * tile.width; i += kThreads) {
    const int j = i / tile.width, column = i % tile.width;
    const int vector = int(blockIdx.y) * tile.width + column;
    if (vector >= tile.vectors) continue;
    Moments m;
    for (int l = 0; l < tile.lines; ++l) {
      const int at = l * tile.width + column;
      m.merge({shared[0][j][at], shared[1][j][at], shared[2][j][at]});
    }
    float* const to = parts + 3 * c * blockIdx.x + vector * N + j;
    to[0] = m.mean, to[c] = m.square, to[2 * c] = m.n;
  }
}

// Merges the parts of 32 channels: warp r parts r, r + 32, ..., then those of the 32 warps in
// order. x: the first row, that was subtracted, or null where there are no rows.
template <class T>
__global__ void __launch_bounds__(cuda::kWarp* cuda::kWarp)
    merge_kernel(const float* parts, const T* x, int64_t count, int64_t c, float* part) {
  __shared__ float shared[3][cuda::kWarp][cuda::kWarp];
  const int lane = int(threadIdx.x) % cuda::kWarp, warp = int(threadIdx.x) / cuda::kWarp;
  const int64_t channel = int64_t{blockIdx.x} * cuda::kWarp + lane;
  Moments m;
  if (channel < c) {
#pragma unroll 4
    for (int64_t p = warp; p < count; p += cuda::kWarp) {
      const float* const from = parts + 3 * c * p + channel;
      m.merge({from[0], from[c], from[2 * c]});
    }
  }
  shared[0][warp][lane] = m.mean, shared[1][warp][lane] = m.square, shared[2][warp][lane] = m.n;
  __syncthreads();
  if (warp != 0 || channel >= c) return;
  for (int k = 1; k < cuda::kWarp; ++k)
    m.merge({shared[0][k][lane], shared[1][k][lane], shared[2][k][lane]});
  part[channel] = x ? m.mean + cuda::to_float(x[channel]) : 0.0f;
  part[c + channel] = m.square;
  if (channel == 0) part[2 * c] = m.n;
}

// A thread a channel. In f64, as on the CPU: there are few.
__global__ void __launch_bounds__(kThreads)
    stats_kernel(const float* parts, int64_t count, int64_t c, double eps, double momentum,
                 float* running_mean, float* running_var, float* stats) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= c) return;
  double mean = 0, square = 0, rows = 0;
  for (int64_t p = 0; p < count; ++p) {
    const float* const part = parts + p * (2 * c + 1);
    const double n = double(part[2 * c]);
    if (n == 0) continue;
    const double delta = double(part[i]) - mean, share = n / (rows + n);
    mean += delta * share;
    square += double(part[c + i]) + delta * delta * share * rows;
    rows += n;
  }
  if (i == 0) stats[2 * c] = float(rows);
  const double var = count ? square / rows : double(running_var[i]);
  stats[i] = count ? float(mean) : running_mean[i];
  stats[c + i] = float(1 / sqrt(var + eps));
  const double unbiased = square / (rows - 1);
  if (count == 0 || !isfinite(mean) || !isfinite(unbiased)) return;
  running_mean[i] = float((1 - momentum) * double(running_mean[i]) + momentum * mean);
  running_var[i] = float((1 - momentum) * double(running_var[i]) + momentum * unbiased);
}

struct Channels {
  const float *w, *b, *stats;
  int64_t c;
  bool relu;
};

template <int N>
struct OfThread {  // the channels of a thread
  cuda::Vec<float, N> w, b;
  float mean[N], rstd[N];  // rows of odd length in stats are not aligned
  bool relu;
  __device__ OfThread(const Channels& a, int64_t channel) : relu(a.relu) {
    w = cuda::load_float<N>(a.w + channel), b = cuda::load_float<N>(a.b + channel);
#pragma unroll
    for (int j = 0; j < N; ++j)
      mean[j] = a.stats[channel + j], rstd[j] = a.stats[a.c + channel + j];
  }
  __device__ float xhat(float x, int j) const { return (x - mean[j]) * rstd[j]; }
  __device__ float affine(float xhat, int j) const { return fmaf(xhat, w[j], b[j]); }
  __device__ float dz(float xhat, float dy, int j) const {
    return relu && affine(xhat, j) <= 0 ? 0.0f : dy;
  }
};

template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    normalize_kernel(const T* __restrict__ x, T* __restrict__ y, Channels a, Tile tile) {
  if (!tile.works()) return;
  const OfThread<N> of(a, int64_t{tile.vector()} * N);
  cuda::Vec<T, N> held[kAhead];
  tile.each<kAhead>([&](int k, int64_t at) { held[k] = cuda::load<N>(x + at * N); },
                    [&](int k, int64_t at) {
                      cuda::Vec<float, N> z;
#pragma unroll
                      for (int j = 0; j < N; ++j) {
                        z[j] = of.affine(of.xhat(cuda::to_float(held[k][j]), j), j);
                        if (of.relu && z[j] < 0) z[j] = 0;  // a NaN stays
                      }
                      cuda::store_float<N>(y + at * N, z);
                    },
                    [](int) {});
}

// f(vector of the tensor, xhat[N], dz[N]) for the rows of the thread.
template <class T, int N, class F>
__device__ __forceinline__ void each_gradient(const T* dy, const T* x, const OfThread<N>& of,
                                              const Tile& tile, const F& f) {
  constexpr int kPairs = kAhead / 2;
  cuda::Vec<T, N> xs[kPairs], dys[kPairs];
  tile.each<kPairs>(
      [&](int k, int64_t at) {
        xs[k] = cuda::load<N>(x + at * N), dys[k] = cuda::load<N>(dy + at * N);
      },
      [&](int k, int64_t at) {
        float xhat[N], dz[N];
#pragma unroll
        for (int j = 0; j < N; ++j) {
          xhat[j] = of.xhat(cuda::to_float(xs[k][j]), j);
          dz[j] = of.dz(xhat[j], cuda::to_float(dys[k][j]), j);
        }
        f(at, xhat, dz);
      },
      [](int) {});
}

// Sums over a block's rows: parts (blocks, 2, c): of dz, of dz * xhat.
template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    sums_kernel(const T* dy, const T* x, float* parts, Channels a, Tile tile) {
  __shared__ float shared[2 * N][kThreads];
  float q[N] = {}, p[N] = {};
  if (tile.works())
    each_gradient<T, N>(dy, x, OfThread<N>(a, int64_t{tile.vector()} * N), tile,
                        [&](int64_t, const float(&xhat)[N], const float(&dz)[N]) {
#pragma unroll
                          for (int j = 0; j < N; ++j)
                            q[j] += dz[j], p[j] = fmaf(dz[j], xhat[j], p[j]);
                        });
#pragma unroll
  for (int j = 0; j < N; ++j) shared[j][threadIdx.x] = q[j], shared[N + j][threadIdx.x] = p[j];
  __syncthreads();
  for (int i = int(threadIdx.x); i < 2 * N * tile.width; i += kThreads) {
    const int j = i / tile.width, column = i % tile.width;
    const int vector = int(blockIdx.y) * tile.width + column;
    if (vector >= tile.vectors) continue;
    float sum = 0;
    for (int l = 0; l < tile.lines; ++l) sum += shared[j][l * tile.width + column];
    parts[(2 * int64_t{blockIdx.x} + j / N) * a.c + vector * N + j % N] = sum;
  }
}

__global__ void __launch_bounds__(kThreads)
    put_kernel(const float* sums, int64_t c, cuda::GradPtr<float> dw, cuda::GradPtr<float> db) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= c) return;
  if (db) db.put(i, sums[i]);
  if (dw) dw.put(i, sums[c + i]);
}

// dx = w rstd (dz - mean(dz) - xhat mean(dz xhat)), means over the rows of all parts; without
// sums, dx = w rstd dz.
template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    dx_kernel(const T* __restrict__ dy, const T* __restrict__ x, const float* sums, int64_t parts,
              cuda::GradPtr<T> dx, Channels a, Tile tile) {
  if (!tile.works()) return;
  const int64_t channel = int64_t{tile.vector()} * N;
  const OfThread<N> of(a, channel);
  float mean[N] = {}, product_mean[N] = {}, factor[N];
  for (int64_t p = 0; p < parts; ++p) {
    const auto q = cuda::load_float<N>(sums + 2 * p * a.c + channel);
    const auto r = cuda::load_float<N>(sums + (2 * p + 1) * a.c + channel);
#pragma unroll
    for (int j = 0; j < N; ++j) mean[j] += q[j], product_mean[j] += r[j];
  }
  const float rows = parts ? a.stats[2 * a.c] : 1.0f;
#pragma unroll
  for (int j = 0; j < N; ++j)
    mean[j] /= rows, product_mean[j] /= rows, factor[j] = of.w[j] * of.rstd[j];
  each_gradient<T, N>(dy, x, of, tile, [&](int64_t at, const float(&xhat)[N], const float(&dz)[N]) {
    cuda::Vec<float, N> d;
#pragma unroll
    for (int j = 0; j < N; ++j) d[j] = factor[j] * fmaf(-xhat[j], product_mean[j], dz[j] - mean[j]);
    dx.put(at * N, d);
  });
}

// f(N, tile, grid) for the rows of x.
template <class T, class F>
void with_tile(In x, const F& f) {
  const int64_t c = x.dim(-1);
  if (c == 0) return;
  cuda::with_vectors<T>(c, [&](auto n) {
    Tile tile{.rows = x.numel() / c, .vectors = int(c / decltype(n)::value)};
    tile.width = std::min(tile.vectors, kThreads);
    tile.lines = kThreads / tile.width;
    const int64_t bands = cuda::ceil_div(tile.vectors, tile.width);
    const int64_t blocks = std::min(cuda::ceil_div(tile.rows, int64_t{tile.lines} * kAhead),
                                    cuda::ceil_div(kMaxBlocks, bands));
    f(n, tile, dim3(unsigned(blocks), unsigned(bands)));
  });
}

Channels channels_of(In w, In b, In stats, Activation act) {
  return {w.data<float>(), b.data<float>(), stats.data<float>(), w.numel(),
          act == Activation::relu};
}

void part_of(Stream& stream, In x, Out part) {
  dispatch<float, bf16>(x.dtype(), "batch_norm", [&]<class T>() {
    with_tile<T>(x, [&](auto n, const Tile& tile, dim3 grid) {
      constexpr int N = decltype(n)::value;
      const int64_t c = x.dim(-1);
      Tensor parts = empty({int64_t{grid.x}, 3, c}, Dtype::f32, x.device());
      cuda::launch(stream, {"batch_norm.moments", grid, kThreads}, moments_kernel<T, N>,
                   x.data<T>(), parts.data<float>(), tile);
      cuda::launch(
          stream,
          {"batch_norm.merge", unsigned(cuda::ceil_div(c, cuda::kWarp)), cuda::kWarp * cuda::kWarp},
          merge_kernel<T>, parts.data<float>(), tile.rows ? x.data<T>() : nullptr, int64_t{grid.x},
          c, part.data<float>());
    });
  });
}

void make_stats(Stream& stream, In parts, const BatchNormSettings& s, Out running_mean,
                Out running_var, Out stats) {
  const int64_t c = running_mean.numel();
  cuda::launch(stream, {"batch_norm.stats", unsigned(cuda::ceil_div(c, kThreads)), kThreads},
               stats_kernel, parts ? parts.data<float>() : nullptr, parts ? parts.dim(0) : 0, c,
               s.eps, s.momentum, running_mean.data<float>(), running_var.data<float>(),
               stats.data<float>());
}

void forward(Stream& stream, In x, In w, In b, In stats, Activation act, Out y) {
  dispatch<float, bf16>(x.dtype(), "batch_norm", [&]<class T>() {
    with_tile<T>(x, [&](auto n, const Tile& tile, dim3 grid) {
      cuda::launch(stream, {"batch_norm.normalize", grid, kThreads},
                   normalize_kernel<T, decltype(n)::value>, x.data<T>(), y.data<T>(),
                   channels_of(w, b, stats, act), tile);
    });
  });
}

void sums_of(Stream& stream, In dy, In x, In w, In b, In stats, Activation act, Out sums, Grad dw,
             Grad db) {
  const int64_t c = x.dim(-1);
  dispatch<float, bf16>(x.dtype(), "batch_norm", [&]<class T>() {
    with_tile<T>(x, [&](auto n, const Tile& tile, dim3 grid) {
      Tensor parts = empty({int64_t{grid.x}, 2, c}, Dtype::f32, x.device());
      cuda::launch(stream, {"batch_norm.sums", grid, kThreads}, sums_kernel<T, decltype(n)::value>,
                   dy.data<T>(), x.data<T>(), parts.data<float>(), channels_of(w, b, stats, act),
                   tile);
      cuda::sum_parts(stream, "batch_norm.sum", parts.view({int64_t{grid.x}, 1, 2 * c}),
                      {Grad{sums}});
    });
  });
  if (dw || db)
    cuda::launch(stream, {"batch_norm.put", unsigned(cuda::ceil_div(c, kThreads)), kThreads},
                 put_kernel, sums.data<float>(), c, cuda::grad_ptr<float>(dw),
                 cuda::grad_ptr<float>(db));
}

void dx_of(Stream& stream, In dy, In x, In w, In b, In stats, In sums, Activation act, Grad dx) {
  dispatch<float, bf16>(x.dtype(), "batch_norm", [&]<class T>() {
    with_tile<T>(x, [&](auto n, const Tile& tile, dim3 grid) {
      cuda::launch(stream, {"batch_norm.dx", grid, kThreads}, dx_kernel<T, decltype(n)::value>,
                   dy.data<T>(), x.data<T>(), sums ? sums.data<float>() : nullptr,
                   sums ? sums.dim(0) : 0, cuda::grad_ptr<T>(dx), channels_of(w, b, stats, act),
                   tile);
    });
  });
}

const Register r0{kernels::batch_norm_part, DeviceType::cuda, part_of};
const Register r1{kernels::batch_norm_stats, DeviceType::cuda, make_stats};
const Register r2{kernels::batch_norm_fwd, DeviceType::cuda, forward};
const Register r3{kernels::batch_norm_sums, DeviceType::cuda, sums_of};
const Register r4{kernels::batch_norm_dx, DeviceType::cuda, dx_of};

}  // namespace
}  // namespace sg
