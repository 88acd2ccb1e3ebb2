// Passes over memory: forward reads x twice and writes y; backward reads dy and x twice and writes
// dx. That is the least where an image exceeds shared memory.
//
// Forward: blocks hold a span of an image in registers and find its mean and centred sum of squares
// in two passes over them; one block per image combines those (Chan); then x is normalized.
// Backward: blocks add dz * xhat and dz per channel over some tokens, one block per image adds
// theirs and finds the two means that dx needs, and dw and db are the sums over images.
//
// Where channels matter, a thread keeps its vector of channels and walks down the tokens, so w, b
// and sums stay in registers; loads of several tokens are under way at a time.
#include "ops/group_norm/group_norm.h"
#include "ops/reduce_cuda.cuh"

namespace sg {
namespace {

constexpr int kThreads = 256, kImageThreads = 128;
constexpr int kHeld = 4;    // vectors of a span that a thread holds
constexpr int kTokens = 8;  // that a thread walks down

template <int N>
constexpr int64_t kSpan = int64_t{kThreads} * kHeld* N;

// (mean, centred sum of squares) of each span of `size` elements of an image.
template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    moments_kernel(const T* x, float* moments, int64_t size, unsigned spans) {
  __shared__ float scratch[cuda::kWarp + 1];
  const int64_t begin = int64_t{blockIdx.x % spans} * kSpan<N>;
  const int64_t count = size - begin < kSpan<N> ? size - begin : kSpan<N>;
  const T* const span = x + blockIdx.x / spans * size + begin;
  cuda::Vec<T, N> held[kHeld];
  // Sum of f(value) over the span.
  const auto sum = [&](const auto& f) {
    float s = 0;
#pragma unroll
    for (int k = 0; k < kHeld; ++k)
      if ((k * kThreads + threadIdx.x) * N < count)
#pragma unroll
        for (int j = 0; j < N; ++j) s += f(cuda::to_float(held[k][j]));
    return cuda::block_sum(s, scratch);
  };
#pragma unroll
  for (int k = 0; k < kHeld; ++k) {
    const int64_t at = (k * kThreads + threadIdx.x) * N;
    if (at < count) held[k] = cuda::load<N>(span + at);
  }
  const float shift = cuda::to_float(span[0]);
  const float mean = shift + sum([=](float v) { return v - shift; }) / float(count);
  const float square = sum([=](float v) { return (v - mean) * (v - mean); });
  if (threadIdx.x == 0) moments[2 * blockIdx.x] = mean, moments[2 * blockIdx.x + 1] = square;
}

// A block an image: mean and 1/std of the whole.
__global__ void __launch_bounds__(kImageThreads)
    combine_kernel(const float* moments, float* mean, float* rstd, int64_t size, int64_t span,
                   unsigned spans, float eps) {
  __shared__ float scratch[cuda::kWarp + 1];
  const float* const own = moments + int64_t{blockIdx.x} * spans * 2;
  // Sum of f(mean, square, elements) over the spans.
  const auto sum = [&](const auto& f) {
    float s = 0;
    for (unsigned k = threadIdx.x; k < spans; k += kImageThreads)
      s += f(own[2 * k], own[2 * k + 1], float(k + 1 < spans ? span : size - k * span));
    return cuda::block_sum(s, scratch);
  };
  const float shift = own[0];
  const float m =
      shift + sum([=](float of, float, float n) { return (of - shift) * n; }) / float(size);
  const float square =
      sum([=](float of, float centred, float n) { return fmaf((of - m) * (of - m), n, centred); });
  if (threadIdx.x == 0)
    mean[blockIdx.x] = m, rstd[blockIdx.x] = 1.0f / sqrtf(square / float(size) + eps);
}

// What a block works on: `lines` tokens at a time, kTokens times, `width` vectors of channels. Its
// place in the grid: (image and chunk of tokens, band of channels).
struct Tile {
  int64_t tokens;
  int vectors, width, lines;
  unsigned chunks;  // an image

  __device__ int64_t image() const { return blockIdx.x / chunks; }
  __device__ int64_t token(int k) const {
    return (int64_t{blockIdx.x % chunks} * kTokens + k) * lines + int(threadIdx.x) / width;
  }
  __device__ int vector() const { return int(blockIdx.y) * width + int(threadIdx.x) % width; }
  __device__ bool works() const { return int(threadIdx.x) / width < lines && vector() < vectors; }
  // load(k, vector of the tensor) for the next Ahead tokens of the thread, then use() alike.
  template <int Ahead, class L, class U>
  __device__ void each(const L& load, const U& use) const {
    for (int first = 0; first < kTokens; first += Ahead) {
      const auto next = [&](const auto& f) {
#pragma unroll
        for (int k = 0; k < Ahead; ++k)
          if (const int64_t t = token(first + k); t < tokens)
            f(k, (image() * tokens + t) * vectors + vector());
      };
      next(load), next(use);
    }
  }
};

struct Affine {
  const float *w, *b, *mean, *rstd;
};

template <class T, int N, bool Gelu>
__global__ void __launch_bounds__(kThreads)
    normalize_kernel(const T* __restrict__ x, T* __restrict__ y, Affine a, Tile tile) {
  if (!tile.works()) return;
  const float mean = a.mean[tile.image()], rstd = a.rstd[tile.image()];
  const auto w = cuda::load_float<N>(a.w + tile.vector() * N);
  const auto b = cuda::load_float<N>(a.b + tile.vector() * N);
  constexpr int kAhead = 4;
  cuda::Vec<T, N> held[kAhead];
  tile.each<kAhead>([&](int k, int64_t at) { held[k] = cuda::load<N>(x + at * N); },
                    [&](int k, int64_t at) {
                      cuda::Vec<float, N> z;
#pragma unroll
                      for (int j = 0; j < N; ++j) {
                        z[j] = fmaf((cuda::to_float(held[k][j]) - mean) * rstd, w[j], b[j]);
                        if constexpr (Gelu) z[j] = cuda::gelu<T>(z[j]);
                      }
                      cuda::store_float<N>(y + at * N, z);
                    });
}

// Calls f(vector of the tensor, xhat[N], dz[N]) for the tokens of the thread; dz is the gradient
// before the activation.
template <class T, int N, bool Gelu, class F>
__device__ __forceinline__ void each_gradient(const T* dy, const T* x, const Affine& a,
                                              const Tile& tile, const F& f) {
  const float mean = a.mean[tile.image()], rstd = a.rstd[tile.image()];
  cuda::Vec<float, N> w, b;
  if constexpr (Gelu) {
    w = cuda::load_float<N>(a.w + tile.vector() * N);
    b = cuda::load_float<N>(a.b + tile.vector() * N);
  }
  constexpr int kAhead = 2;
  cuda::Vec<T, N> xs[kAhead], dys[kAhead];
  tile.each<kAhead>(
      [&](int k, int64_t at) {
        xs[k] = cuda::load<N>(x + at * N), dys[k] = cuda::load<N>(dy + at * N);
      },
      [&](int k, int64_t at) {
        float xhat[N], dz[N];
#pragma unroll
        for (int j = 0; j < N; ++j) {
          xhat[j] = (cuda::to_float(xs[k][j]) - mean) * rstd;
          dz[j] = cuda::to_float(dys[k][j]);
          if constexpr (Gelu) dz[j] *= cuda::gelu_grad<T>(fmaf(xhat[j], w[j], b[j]));
        }
        f(at, xhat, dz);
      });
}

// Per chunk of tokens and channel: P = sum dz * xhat, Q = sum dz; parts (chunks, 2, c).
template <class T, int N, bool Gelu>
__global__ void __launch_bounds__(kThreads)
    sums_kernel(const T* dy, const T* x, float* parts, Affine a, Tile tile) {
  __shared__ float shared[2 * N][kThreads];
  float p[N] = {}, q[N] = {};
  if (tile.works())
    each_gradient<T, N, Gelu>(dy, x, a, tile,
                              [&](int64_t, const float(&xhat)[N], const float(&dz)[N]) {
#pragma unroll
                                for (int j = 0; j < N; ++j)
                                  p[j] = fmaf(dz[j], xhat[j], p[j]), q[j] += dz[j];
                              });
#pragma unroll
  for (int j = 0; j < N; ++j) shared[j][threadIdx.x] = p[j], shared[N + j][threadIdx.x] = q[j];
  __syncthreads();
  const int64_t c = int64_t{tile.vectors} * N;
  for (int i = int(threadIdx.x); i < 2 * N * tile.width; i += kThreads) {
    const int j = i / tile.width, column = i % tile.width;
    const int vector = int(blockIdx.y) * tile.width + column;
    if (vector >= tile.vectors) continue;
    float sum = 0;
    for (int l = 0; l < tile.lines; ++l) sum += shared[j][l * tile.width + column];
    parts[(2 * int64_t{blockIdx.x} + j / N) * c + vector * N + j % N] = sum;
  }
}

// A block an image: P and Q of the image into sums (images, 2, c), and the means of P w and Q w
// over its `size` elements into means (images, 2).
__global__ void __launch_bounds__(kImageThreads)
    image_sums_kernel(const float* parts, const float* w, float* sums, float* means,
                      unsigned chunks, int64_t c, float size) {
  __shared__ float scratch[cuda::kWarp + 1];
  float total[2] = {};
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    for (int64_t i = threadIdx.x; i < c; i += kImageThreads) {
      float sum = 0;
#pragma unroll 8
      for (unsigned p = 0; p < chunks; ++p)
        sum += parts[((int64_t{blockIdx.x} * chunks + p) * 2 + k) * c + i];
      sums[(int64_t{blockIdx.x} * 2 + k) * c + i] = sum;
      total[k] = fmaf(sum, w[i], total[k]);
    }
    total[k] = cuda::block_sum(total[k], scratch);
    if (threadIdx.x == 0) means[2 * blockIdx.x + k] = total[k] / size;
  }
}

// dx = rstd * (dz * w - mean(Q w) - xhat * mean(P w)).
template <class T, int N, bool Gelu>
__global__ void __launch_bounds__(kThreads)
    dx_kernel(const T* __restrict__ dy, const T* __restrict__ x, const float* means,
              cuda::GradPtr<T> dx, Affine a, Tile tile) {
  if (!tile.works()) return;
  const float p = means[2 * tile.image()], q = means[2 * tile.image() + 1];
  const float rstd = a.rstd[tile.image()];
  const auto w = cuda::load_float<N>(a.w + tile.vector() * N);
  each_gradient<T, N, Gelu>(dy, x, a, tile,
                            [&](int64_t at, const float(&xhat)[N], const float(&dz)[N]) {
                              cuda::Vec<float, N> d;
#pragma unroll
                              for (int j = 0; j < N; ++j)
                                d[j] = rstd * fmaf(-xhat[j], p, fmaf(dz[j], w[j], -q));
                              dx.put(at * N, d);
                            });
}

// f(N, tile, grid, gelu as std::bool_constant) for the channels of x.
template <class T, class F>
void with_tile(In x, Activation act, const F& f) {
  const int64_t tokens = x.dim(1) * x.dim(2), c = x.dim(3);
  cuda::with_vectors<T>(c, [&](auto n) {
    Tile tile{.tokens = tokens, .vectors = int(c / decltype(n)::value)};
    tile.width = std::clamp(tile.vectors, 1, kThreads);
    tile.lines = kThreads / tile.width;
    tile.chunks = unsigned(cuda::ceil_div(tokens, int64_t{tile.lines} * kTokens));
    const dim3 grid(unsigned(x.dim(0)) * tile.chunks,
                    unsigned(cuda::ceil_div(tile.vectors, tile.width)));
    act == Activation::gelu ? f(n, tile, grid, std::true_type())
                            : f(n, tile, grid, std::false_type());
  });
}

void forward(Stream& stream, In x, In w, In b, double eps, Activation act, Out y, Out mean,
             Out rstd) {
  const int64_t batch = x.dim(0), size = batch ? x.numel() / batch : 0;
  if (x.numel() == 0) return;
  const Tensor m = mean ? mean : empty({batch}, Dtype::f32, x.device());
  const Tensor s = rstd ? rstd : empty_like(m);
  dispatch<float, bf16>(x.dtype(), "group_norm", [&]<class T>() {
    cuda::with_vectors<T>(size, [&](auto n) {
      constexpr int N = decltype(n)::value;
      const auto spans = unsigned(cuda::ceil_div(size, kSpan<N>));
      Tensor moments = empty({batch, spans, 2}, Dtype::f32, x.device());
      cuda::launch(stream, {"group_norm.moments", unsigned(batch) * spans, kThreads},
                   moments_kernel<T, N>, x.data<T>(), moments.data<float>(), size, spans);
      cuda::launch(stream, {"group_norm.combine", unsigned(batch), kImageThreads}, combine_kernel,
                   moments.data<float>(), m.data<float>(), s.data<float>(), size, kSpan<N>, spans,
                   float(eps));
    });
    const Affine a{w.data<float>(), b.data<float>(), m.data<float>(), s.data<float>()};
    with_tile<T>(x, act, [&](auto n, const Tile& tile, dim3 grid, auto gelu) {
      cuda::launch(stream, {"group_norm.normalize", grid, kThreads},
                   normalize_kernel<T, decltype(n)::value, decltype(gelu)::value>, x.data<T>(),
                   y.data<T>(), a, tile);
    });
  });
}

void backward(Stream& stream, In dy, In x, In w, In b, In mean, In rstd, Activation act, Grad dx,
              Grad dw, Grad db) {
  const int64_t batch = x.dim(0), c = x.dim(3), size = batch ? x.numel() / batch : 0;
  const Affine a{w.data<float>(), b.data<float>(), mean.data<float>(), rstd.data<float>()};
  Tensor sums = empty({batch, 2, c}, Dtype::f32, x.device());
  dispatch<float, bf16>(x.dtype(), "group_norm", [&]<class T>() {
    with_tile<T>(x, act, [&](auto n, const Tile& tile, dim3 grid, auto gelu) {
      constexpr int N = decltype(n)::value;
      constexpr bool Gelu = decltype(gelu)::value;
      Tensor parts = empty({int64_t{grid.x}, 2, c}, Dtype::f32, x.device());
      Tensor means = empty({batch, 2}, Dtype::f32, x.device());
      cuda::launch(stream, {"group_norm.bwd.sums", grid, kThreads}, sums_kernel<T, N, Gelu>,
                   dy.data<T>(), x.data<T>(), parts.data<float>(), a, tile);
      cuda::launch(stream, {"group_norm.bwd.image_sums", unsigned(batch), kImageThreads},
                   image_sums_kernel, parts.data<float>(), w.data<float>(), sums.data<float>(),
                   means.data<float>(), tile.chunks, c, float(size));
      if (dx)
        cuda::launch(stream, {"group_norm.bwd.dx", grid, kThreads}, dx_kernel<T, N, Gelu>,
                     dy.data<T>(), x.data<T>(), means.data<float>(), cuda::grad_ptr<T>(dx), a,
                     tile);
    });
  });
  if (dw || db) cuda::sum_parts(stream, "group_norm.bwd.sum", sums, {dw, db});
}

const Register r0{kernels::group_norm_fwd, DeviceType::cuda, forward};
const Register r1{kernels::group_norm_bwd, DeviceType::cuda, backward};

}  // namespace
}  // namespace sg
