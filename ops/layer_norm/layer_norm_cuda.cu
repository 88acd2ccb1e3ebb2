// One pass over memory each way: forward reads x and writes y, backward reads dy, x (and dx, where
// it adds to it) and writes dx.
//
// A row lies in the registers of a group of L lanes, V vectors of 16 bytes a lane, so a warp works
// on 32 / L rows at a time, and on two sets of them where rows are short. The mean is that of
// differences from the first element, and the variance a second pass over the registers, so a large
// mean does no harm. Blocks stay and take rows in strides: sums of dw and db live in registers and
// end in one part a block.
//
// Rows that do not fit, or are no whole vectors, take a warp each, which reads them several times.
#include "ops/layer_norm/layer_norm.h"
#include "ops/reduce_cuda.cuh"

namespace sg {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / cuda::kWarp;
constexpr int64_t kProcessors = 132;  // blocks stay: a few for each
constexpr int kMostElements = 24;     // of a row, that a lane holds

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

template <class T, int L, int V>
__global__ void __launch_bounds__(kThreads) forward_kernel(const T* x, T* y, Forward a) {
  constexpr int kSets = V == 1 ? 2 : 1, N = kVector<T>;
  using R = Row<T, L, V>;
  for (int64_t first = Rows<L>::first(kSets); first < a.rows; first += Rows<L>::stride(kSets)) {
    R r[kSets];
#pragma unroll
    for (int s = 0; s < kSets; ++s) {
      const int64_t row = Rows<L>::of_group(first, s);
      r[s].load(x + row * a.c, a.c, row < a.rows);
    }
#pragma unroll
    for (int s = 0; s < kSets; ++s) {
      const int64_t row = Rows<L>::of_group(first, s);
      const float shift = r[s].first();
      const float mean = shift + r[s].mean(a.c, [=](float v) { return v - shift; });
      const float var = r[s].mean(a.c, [=](float v) { return (v - mean) * (v - mean); });
      const float rstd = 1.0f / sqrtf(var + a.eps);
      if (row >= a.rows) continue;
      R::each(a.c, [&](int v, int column) {
        const auto w = cuda::load_float<N>(a.w + column), b = cuda::load_float<N>(a.b + column);
        cuda::Vec<float, N> z;
#pragma unroll
        for (int j = 0; j < N; ++j) {
          z[j] = fmaf((cuda::to_float(r[s].at[v][j]) - mean) * rstd, w[j], b[j]);
          if (a.gelu) z[j] = cuda::gelu(z[j]);
        }
        cuda::store_float<N>(y + row * a.c + column, z);
      });
      if (a.mean && R::lane() == 0) a.mean[row] = mean, a.rstd[row] = rstd;
    }
  }
}

struct Backward {
  const float *w, *b, *mean, *rstd;
  float* parts;  // (blocks, 2, c): dw, db
  int64_t rows;
  int c;
  bool gelu;
};

// Sums of dw and db in the columns of a lane.
template <int N, int V>
struct Sums {
  float w[V][N], b[V][N];
};

// Adds the sums of the groups of a warp, then of the warps, and writes the block's part.
template <class T, int L, int V>
__device__ void write_part(const Sums<kVector<T>, V>& sums, const Backward& a) {
  float* const shared = cuda::dynamic_shared<float>();  // (warps, 2, c)
  const auto over_groups = [](float v) {
#pragma unroll
    for (int offset = L; offset < cuda::kWarp; offset *= 2) v += cuda::shuffle_xor(v, offset);
    return v;
  };
  float* const mine = shared + int(threadIdx.x) / cuda::kWarp * 2 * a.c;
#pragma unroll
  for (int v = 0; v < V; ++v)
#pragma unroll
    for (int j = 0; j < kVector<T>; ++j) {
      const float w = over_groups(sums.w[v][j]), b = over_groups(sums.b[v][j]);
      const int i = (v * L + Row<T, L, V>::lane()) * kVector<T> + j;
      if (threadIdx.x % cuda::kWarp < L && i < a.c) mine[i] = w, mine[a.c + i] = b;
    }
  __syncthreads();
  for (int i = int(threadIdx.x); i < 2 * a.c; i += kThreads) {
    float sum = 0;
#pragma unroll
    for (int k = 0; k < kWarps; ++k) sum += shared[k * 2 * a.c + i];
    a.parts[int64_t{blockIdx.x} * 2 * a.c + i] = sum;
  }
}

// Of a vector: with dz the gradient before the activation, g = dz * w. Computed when needed, twice,
// so that a lane keeps x and dy as they are in memory.
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
    if constexpr (Gelu) e.dz[j] *= cuda::gelu_grad(fmaf(e.xhat[j], w[j], a.b[column + j]));
    e.g[j] = e.dz[j] * w[j];
  }
  return e;
}

// That a processor has registers for.
template <class T, int V, bool Gelu>
constexpr int kBackwardBlocks = kVector<T>* V <= 8 ? 5
                                : Gelu             ? 3
                                                   : 4;

// With means over the row:
//   dx = rstd * (g - mean(g) - xhat * mean(g * xhat)),  dw = sum dz * xhat,  db = sum dz.
template <class T, int L, int V, bool Gelu>
__global__ void __launch_bounds__(kThreads, kBackwardBlocks<T, V, Gelu>)
    backward_kernel(const T* dy, const T* x, cuda::GradPtr<T> dx, Backward a) {
  constexpr int kSets = V == 1 ? 2 : 1, N = kVector<T>;
  using R = Row<T, L, V>;
  Sums<N, V> sums{};
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
          sums.w[v][j] = fmaf(e.dz[j], e.xhat[j], sums.w[v][j]);
          sums.b[v][j] += e.dz[j];
          g_mean += e.g[j], gx_mean = fmaf(e.g[j], e.xhat[j], gx_mean);
        }
      });
      if (!dx) continue;
      g_mean = cuda::warp_sum<L>(g_mean) / float(a.c);
      gx_mean = cuda::warp_sum<L>(gx_mean) / float(a.c);
      const int64_t row = Rows<L>::of_group(first, s);
      if (row >= a.rows) continue;
      R::each(a.c, [&](int v, int column) {
        const auto e = of(v, column);
        cuda::Vec<float, N> d;
#pragma unroll
        for (int j = 0; j < N; ++j) d[j] = rstds[s] * fmaf(-e.xhat[j], gx_mean, e.g[j] - g_mean);
        dx.put(row * a.c + column, d);
      });
    }
  }
  if (a.parts) write_part<T, L, V>(sums, a);
}

// Any row, from memory.
template <class T>
__global__ void __launch_bounds__(kThreads) forward_any_kernel(const T* x, T* y, Forward a) {
  const int lane = threadIdx.x % cuda::kWarp;
  for (int64_t row = Rows<cuda::kWarp>::first(1); row < a.rows;
       row += Rows<cuda::kWarp>::stride(1)) {
    const T* const from = x + row * a.c;
    const float shift = cuda::to_float(from[0]);
    float sum = 0, square = 0;
    for (int i = lane; i < a.c; i += cuda::kWarp) sum += cuda::to_float(from[i]) - shift;
    const float mean = shift + cuda::warp_sum(sum) / float(a.c);
    for (int i = lane; i < a.c; i += cuda::kWarp) {
      const float d = cuda::to_float(from[i]) - mean;
      square += d * d;
    }
    const float rstd = 1.0f / sqrtf(cuda::warp_sum(square) / float(a.c) + a.eps);
    for (int i = lane; i < a.c; i += cuda::kWarp) {
      const float z = fmaf((cuda::to_float(from[i]) - mean) * rstd, a.w[i], a.b[i]);
      y[row * a.c + i] = cuda::from_float<T>(a.gelu ? cuda::gelu(z) : z);
    }
    if (a.mean && lane == 0) a.mean[row] = mean, a.rstd[row] = rstd;
  }
}

// A block is one warp; each lane adds its columns of dw and db in the block's part, in memory.
template <class T>
__global__ void __launch_bounds__(cuda::kWarp)
    backward_any_kernel(const T* dy, const T* x, cuda::GradPtr<T> dx, Backward a) {
  float* const dw = a.parts ? a.parts + int64_t{blockIdx.x} * 2 * a.c : nullptr;
  float* const db = dw ? dw + a.c : nullptr;
  const int lane = int(threadIdx.x);
  for (int i = lane; dw && i < a.c; i += cuda::kWarp) dw[i] = db[i] = 0;
  for (int64_t row = blockIdx.x; row < a.rows; row += gridDim.x) {
    const float mean = a.mean[row], rstd = a.rstd[row];
    // f(i, xhat, dz) for the lane's elements.
    const auto each = [&](const auto& f) {
      for (int i = lane; i < a.c; i += cuda::kWarp) {
        const float xhat = (cuda::to_float(x[row * a.c + i]) - mean) * rstd;
        float dz = cuda::to_float(dy[row * a.c + i]);
        if (a.gelu) dz *= cuda::gelu_grad(fmaf(xhat, a.w[i], a.b[i]));
        f(i, xhat, dz);
      }
    };
    float g_sum = 0, gx_sum = 0;
    each([&](int i, float xhat, float dz) {
      if (dw) dw[i] = fmaf(dz, xhat, dw[i]), db[i] += dz;
      g_sum += dz * a.w[i], gx_sum += dz * a.w[i] * xhat;
    });
    if (!dx) continue;
    const float g_mean = cuda::warp_sum(g_sum) / float(a.c);
    const float gx_mean = cuda::warp_sum(gx_sum) / float(a.c);
    each([&](int i, float xhat, float dz) {
      dx.put(row * a.c + i, rstd * fmaf(-xhat, gx_mean, dz * a.w[i] - g_mean));
    });
  }
}

// f(L, V) for the least registers that hold a row of c elements; false where none do.
template <class T, class F>
bool with_row(int64_t c, const F& f) {
  constexpr int N = kVector<T>;
  const int64_t vectors = c / N;
  const auto try_one = [&]<int L, int V>() {
    if constexpr (V * N <= kMostElements) {
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
unsigned blocks_for(int64_t rows, int64_t at_once, int64_t most) {
  return unsigned(std::min(cuda::ceil_div(rows, at_once), most * kProcessors));
}

void forward(Stream& stream, In x, In w, In b, double eps, Activation act, Out y, Out mean,
             Out rstd) {
  const int64_t c = x.dim(-1), rows = c ? x.numel() / c : 0;
  const Forward a{w.data<float>(),
                  b.data<float>(),
                  mean ? mean.data<float>() : nullptr,
                  rstd ? rstd.data<float>() : nullptr,
                  rows,
                  int(c),
                  float(eps),
                  act == Activation::gelu};
  dispatch<float, bf16>(x.dtype(), "layer_norm", [&]<class T>() {
    const bool held = with_row<T>(c, [&]<int L, int V>() {
      cuda::launch(stream, {"layer_norm.fwd", blocks_for(rows, kThreads / L, 16), kThreads},
                   forward_kernel<T, L, V>, x.data<T>(), y.data<T>(), a);
    });
    if (!held)
      cuda::launch(stream, {"layer_norm.fwd", blocks_for(rows, kWarps, 16), kThreads},
                   forward_any_kernel<T>, x.data<T>(), y.data<T>(), a);
  });
}

void backward(Stream& stream, In dy, In x, In w, In b, In mean, In rstd, Activation act, Grad dx,
              Grad dw, Grad db) {
  const int64_t c = x.dim(-1), rows = c ? x.numel() / c : 0;
  dispatch<float, bf16>(x.dtype(), "layer_norm", [&]<class T>() {
    Tensor parts;
    const auto run = [&](unsigned blocks, int threads, size_t shared, auto* kernel) {
      if (dw || db) parts = empty({int64_t{blocks}, 2, c}, Dtype::f32, x.device());
      const Backward a{w.data<float>(),
                       b.data<float>(),
                       mean.data<float>(),
                       rstd.data<float>(),
                       parts ? parts.data<float>() : nullptr,
                       rows,
                       int(c),
                       act == Activation::gelu};
      cuda::launch(stream, {"layer_norm.bwd", blocks, threads, shared}, kernel, dy.data<T>(),
                   x.data<T>(), cuda::grad_ptr<T>(dx), a);
    };
    const bool held = with_row<T>(c, [&]<int L, int V>() {
      const auto with = [&]<bool Gelu>(std::bool_constant<Gelu>) {
        run(blocks_for(rows, kThreads / L, kBackwardBlocks<T, V, Gelu>), kThreads,
            size_t(kWarps * 2 * c) * sizeof(float), backward_kernel<T, L, V, Gelu>);
      };
      act == Activation::gelu ? with(std::true_type()) : with(std::false_type());
    });
    if (!held) run(blocks_for(rows, 1, 8), cuda::kWarp, 0, backward_any_kernel<T>);
    if (parts) cuda::sum_parts(stream, "layer_norm.bwd.sum", parts, {dw, db});
  });
}

const Register r0{kernels::layer_norm_fwd, DeviceType::cuda, forward};
const Register r1{kernels::layer_norm_bwd, DeviceType::cuda, backward};

}  // namespace
}  // namespace sg
