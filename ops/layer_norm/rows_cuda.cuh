// Kernels of layer normalization for rows that registers hold, of layer_norm and add_layer_norm.
//
// A row lies in the registers of a group of L lanes, V vectors of 16 bytes a lane, so a warp works
// on 32 / L rows at a time, and on two sets of them where rows are short. The mean is that of
// differences from the first element, and the variance a second pass over the registers, so a large
// mean does no harm. Blocks stay and take rows in strides: sums of dw and db live in registers and
// end in one part per block.
#pragma once
#include "ops/reduce_cuda.cuh"

namespace sg::layer_norm_rows {

constexpr int kThreads = 128, kWarps = kThreads / cuda::kWarp;
// Blocks are started for this many multiprocessors on every GPU, so that sums are split alike on
// all of them.
constexpr int64_t kProcessors = 132;
constexpr int kMaxElements = 24;  // of a row, that a lane holds

template <class T>
constexpr int kVector = 16 / int(sizeof(T));

// The part of a row that a lane holds, as it lies in memory: vector v starts at column
// (v L + lane) N. Columns beyond the row are left out.
template <class T, int L, int V>
struct Row {
  static constexpr int N = kVector<T>;
  cuda::Vec<T, N> at[V];

  __device__ static int lane() { return int(threadIdx.x) % L; }
  // f(v, column) for the vectors of the row.
  template <class F>
  __device__ static void each(int c, const F& f) {
#pragma unroll
    for (int v = 0; v < V; ++v)
      if (const int column = (v * L + lane()) * N; column < c) f(v, column);
  }
  __device__ void load(const T* row, int c, bool there) {
    each(c, [&](int v, int column) {
      if (there)
        at[v] = cuda::load<N>(row + column);
      else
        at[v] = {};
    });
  }
  // The first element of the row, for all its lanes.
  __device__ float first() const {
    return cuda::shuffle(cuda::to_float(at[0][0]), int(threadIdx.x) % cuda::kWarp / L * L);
  }
  // Mean of f(value) over the row, for all its lanes.
  template <class F>
  __device__ float mean(int c, const F& f) const {
    float s = 0;
    each(c, [&](int v, int) {
#pragma unroll
      for (int j = 0; j < N; ++j) s += f(cuda::to_float(at[v][j]));
    });
    return cuda::warp_sum<L>(s) / float(c);
  }
};

// The rows of a warp: its groups have neighbouring rows, `sets` times.
template <int L>
struct Rows {
  static constexpr int kGroups = cuda::kWarp / L;
  __device__ static int64_t first(int sets) {
    return (int64_t{blockIdx.x} * kWarps + threadIdx.x / cuda::kWarp) * kGroups * sets;
  }
  __device__ static int64_t stride(int sets) {
    return int64_t{gridDim.x} * kWarps * kGroups * sets;
  }
  __device__ static int64_t of_group(int64_t first, int set) {
    return first + set * kGroups + threadIdx.x % cuda::kWarp / L;
  }
};

struct Forward {
  const float *w, *b;
  float *mean, *rstd;  // or null
  int64_t rows;
  int c;
  float eps;
  bool gelu;
};

// A source says where the rows to normalize come from: load() fetches what is needed of kParts
// tensors, and finish() makes r[0] the row. This one: from x.
template <class T>
struct FromTensor {
  static constexpr int kParts = 1;
  const T* x;
  template <class R>
  __device__ void load(R (&r)[1], int64_t row, int c, bool there) const {
    r[0].load(x + row * c, c, there);
  }
  template <class R>
  __device__ void finish(R (&)[1], int64_t, int, bool) const {}
};

template <class T, int L, int V, class Source>
__global__ void __launch_bounds__(kThreads) forward_kernel(Source source, T* y, Forward a) {
  constexpr int kSets = V == 1 ? 2 : 1, N = kVector<T>;
  using R = Row<T, L, V>;
  for (int64_t first = Rows<L>::first(kSets); first < a.rows; first += Rows<L>::stride(kSets)) {
    R parts[kSets][Source::kParts];
#pragma unroll
    for (int s = 0; s < kSets; ++s) {
      const int64_t row = Rows<L>::of_group(first, s);
      source.load(parts[s], row, a.c, row < a.rows);
    }
#pragma unroll
    for (int s = 0; s < kSets; ++s) {
      const int64_t row = Rows<L>::of_group(first, s);
      source.finish(parts[s], row, a.c, row < a.rows);
      const R& r = parts[s][0];
      const float shift = r.first();
      const float mean = shift + r.mean(a.c, [=](float v) { return v - shift; });
      const float var = r.mean(a.c, [=](float v) { return (v - mean) * (v - mean); });
      const float rstd = 1.0f / sqrtf(var + a.eps);
      if (row >= a.rows) continue;
      R::each(a.c, [&](int v, int column) {
        const auto w = cuda::load_float<N>(a.w + column), b = cuda::load_float<N>(a.b + column);
        cuda::Vec<float, N> z;
#pragma unroll
        for (int j = 0; j < N; ++j) {
          z[j] = fmaf((cuda::to_float(r.at[v][j]) - mean) * rstd, w[j], b[j]);
          if (a.gelu) z[j] = cuda::gelu<T>(z[j]);
        }
        cuda::store_float<N>(y + row * a.c + column, z);
      });
      if (a.mean && R::lane() == 0) a.mean[row] = mean, a.rstd[row] = rstd;
    }
  }
}

struct Backward {
  const float *w, *b, *mean, *rstd;
  float* parts;  // (blocks, 2 or 3, c): dw, db, and column sums of what the sink makes
  int64_t rows;
  int c;
  bool gelu;
};

// K sums in the columns of a lane.
template <int K, int N, int V>
struct LaneSums {
  float of[K][V][N];
};

// Adds the sums of the groups of a warp, then of the warps, and writes the block's part.
template <class T, int L, int V, int K>
__device__ void write_part(const LaneSums<K, kVector<T>, V>& sums, const Backward& a) {
  float* const shared = cuda::dynamic_shared<float>();  // (warps, K, c)
  const auto over_groups = [](float v) {
#pragma unroll
    for (int offset = L; offset < cuda::kWarp; offset *= 2) v += cuda::shuffle_xor(v, offset);
    return v;
  };
  float* const mine = shared + int(threadIdx.x) / cuda::kWarp * K * a.c;
#pragma unroll
  for (int k = 0; k < K; ++k)
#pragma unroll
    for (int v = 0; v < V; ++v)
#pragma unroll
      for (int j = 0; j < kVector<T>; ++j) {
        const float sum = over_groups(sums.of[k][v][j]);
        const int i = (v * L + Row<T, L, V>::lane()) * kVector<T> + j;
        if (threadIdx.x % cuda::kWarp < L && i < a.c) mine[k * a.c + i] = sum;
      }
  __syncthreads();
  for (int i = int(threadIdx.x); i < K * a.c; i += kThreads) {
    float sum = 0;
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) sum += shared[warp * K * a.c + i];
    a.parts[int64_t{blockIdx.x} * K * a.c + i] = sum;
  }
}

// A vector of a row: with dz the gradient before the activation, g = dz * w. Computed when needed,
// twice, so that a lane keeps x and dy as they are in memory.
template <int N>
struct Elements {
  float xhat[N], dz[N], g[N];
};
template <bool Gelu, class T, int N>
__device__ __forceinline__ Elements<N> elements(const cuda::Vec<T, N>& x, const cuda::Vec<T, N>& dy,
                                                float mean, float rstd, int column,
                                                const Backward& a) {
  Elements<N> e;
  const auto w = cuda::load_float<N>(a.w + column);
#pragma unroll
  for (int j = 0; j < N; ++j) {
    e.xhat[j] = (cuda::to_float(x[j]) - mean) * rstd;
    e.dz[j] = cuda::to_float(dy[j]);
    if constexpr (Gelu) e.dz[j] *= cuda::gelu_grad<T>(fmaf(e.xhat[j], w[j], a.b[column + j]));
    e.g[j] = e.dz[j] * w[j];
  }
  return e;
}

// A sink takes the gradient of the rows, and what scale() says of the row. put() may leave
// something else in d, whose column sums are wanted where kSums. This one: as the gradient of x.
template <class T>
struct ToGrad {
  static constexpr bool kSums = false;
  cuda::GradPtr<T> dx;
  __device__ bool wants() const { return bool(dx); }
  __device__ float scale(int64_t) const { return 1; }
  template <int N>
  __device__ void put(int64_t at, cuda::Vec<float, N>& d, float) const {
    dx.put(at, d);
  }
};
template <class Sink>
constexpr int kSumsOf = Sink::kSums ? 3 : 2;

// Blocks that the registers of a multiprocessor allow.
template <class T, int V, bool Gelu, class Sink>
constexpr int kBackwardBlocks = kVector<T>* V <= 8                             ? 5
                                : Gelu || (Sink::kSums && kVector<T> * V > 16) ? 3
                                                                               : 4;

// With means over the row:
//   dx = rstd * (g - mean(g) - xhat * mean(g * xhat)),  dw = sum dz * xhat,  db = sum dz.
template <class T, int L, int V, bool Gelu, class Sink>
__global__ void __launch_bounds__(kThreads, kBackwardBlocks<T, V, Gelu, Sink>)
    backward_kernel(const T* dy, const T* x, Sink sink, Backward a) {
  constexpr int kSets = V == 1 ? 2 : 1, N = kVector<T>;
  using R = Row<T, L, V>;
  LaneSums<kSumsOf<Sink>, N, V> sums{};
  for (int64_t first = Rows<L>::first(kSets); first < a.rows; first += Rows<L>::stride(kSets)) {
    R xs[kSets], dys[kSets];
    float means[kSets], rstds[kSets];
#pragma unroll
    for (int s = 0; s < kSets; ++s) {
      const int64_t row = Rows<L>::of_group(first, s);
      xs[s].load(x + row * a.c, a.c, row < a.rows);
      dys[s].load(dy + row * a.c, a.c, row < a.rows);
      means[s] = row < a.rows ? a.mean[row] : 0.0f, rstds[s] = row < a.rows ? a.rstd[row] : 0.0f;
    }
#pragma unroll
    for (int s = 0; s < kSets; ++s) {
      const auto of = [&](int v, int column) {
        return elements<Gelu>(xs[s].at[v], dys[s].at[v], means[s], rstds[s], column, a);
      };
      float g_mean = 0, gx_mean = 0;
      R::each(a.c, [&](int v, int column) {
        const auto e = of(v, column);
#pragma unroll
        for (int j = 0; j < N; ++j) {
          sums.of[0][v][j] = fmaf(e.dz[j], e.xhat[j], sums.of[0][v][j]);
          sums.of[1][v][j] += e.dz[j];
          g_mean += e.g[j], gx_mean = fmaf(e.g[j], e.xhat[j], gx_mean);
        }
      });
      if (!sink.wants()) continue;
      g_mean = cuda::warp_sum<L>(g_mean) / float(a.c);
      gx_mean = cuda::warp_sum<L>(gx_mean) / float(a.c);
      const int64_t row = Rows<L>::of_group(first, s);
      if (row >= a.rows) continue;
      const float scale = sink.scale(row);
      R::each(a.c, [&](int v, int column) {
        const auto e = of(v, column);
        cuda::Vec<float, N> d;
#pragma unroll
        for (int j = 0; j < N; ++j) d[j] = rstds[s] * fmaf(-e.xhat[j], gx_mean, e.g[j] - g_mean);
        sink.put(row * a.c + column, d, scale);
        if constexpr (Sink::kSums) {
#pragma unroll
          for (int j = 0; j < N; ++j) sums.of[2][v][j] += d[j];
        }
      });
    }
  }
  if (a.parts) write_part<T, L, V>(sums, a);
}

// f(L, V) for the least registers that hold a row of c elements; false where none do.
template <class T, class F>
bool with_row(int64_t c, const F& f) {
  constexpr int N = kVector<T>;
  const int64_t vectors = c / N;
  const auto try_one = [&]<int L, int V>() {
    if constexpr (V * N <= kMaxElements) {
      if (vectors > L * V) return false;
      f.template operator()<L, V>();
      return true;
    }
    return false;
  };
  return c % N == 0 &&
         (try_one.template operator()<8, 1>() || try_one.template operator()<4, 3>() ||
          try_one.template operator()<16, 1>() || try_one.template operator()<8, 3>() ||
          try_one.template operator()<32, 1>() || try_one.template operator()<16, 3>() ||
          try_one.template operator()<32, 2>() || try_one.template operator()<32, 3>() ||
          try_one.template operator()<32, 4>() || try_one.template operator()<32, 6>());
}

// Blocks for rows of which a block takes `at_once`, at most `most` a processor.
inline unsigned blocks_for(int64_t rows, int64_t at_once, int64_t most) {
  return unsigned(std::min(cuda::ceil_div(rows, at_once), most * kProcessors));
}

// False, and nothing done, where registers do not hold a row; so backward_rows, whose `sums` are
// dw, db, and column sums of what the sink makes.
template <class T, class Source>
bool forward_rows(Stream& stream, const char* name, const Source& source, T* y, const Forward& a) {
  return with_row<T>(a.c, [&]<int L, int V>() {
    cuda::launch(stream, {name, blocks_for(a.rows, kThreads / L, 16), kThreads},
                 forward_kernel<T, L, V, Source>, source, y, a);
  });
}

template <bool Gelu, class T, class Sink>
bool backward_rows(Stream& stream, const char* name, const T* dy, const T* x, const Sink& sink,
                   Backward a, const Grad (&sums)[kSumsOf<Sink>]) {
  constexpr int K = kSumsOf<Sink>;
  return with_row<T>(a.c, [&]<int L, int V>() {
    const unsigned blocks = blocks_for(a.rows, kThreads / L, kBackwardBlocks<T, V, Gelu, Sink>);
    Tensor parts;
    if (std::any_of(sums, sums + K, [](const Grad& g) { return bool(g); }))
      parts = empty({int64_t{blocks}, K, a.c}, Dtype::f32, stream.device);
    a.parts = parts ? parts.data<float>() : nullptr;
    cuda::launch(stream, {name, blocks, kThreads, size_t(kWarps * K * a.c) * sizeof(float)},
                 backward_kernel<T, L, V, Gelu, Sink>, dy, x, sink, a);
    if (parts) cuda::sum_parts(stream, name, parts, sums);
  });
}

}  // namespace sg::layer_norm_rows
