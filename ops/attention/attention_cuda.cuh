// What the attention kernels share: how the work is cut into blocks, rows of maps to and from
// shared memory, and matmuls of tiles by one warp.
//
// Tiles of queries, keys and values lie in shared memory, a token a row, D elements wide (the head
// dimension padded with zeros). Rows are padded by 16 bytes, so that reading 16 bytes from each of
// eight consecutive rows has no bank conflicts. There are two kinds of arithmetic: bf16 on matrix
// units, and float by FMA; sums are spread over a warp alike (mma_16x8x16), so that all else is
// written once.
#pragma once
#include <limits>

#include "core/cuda/kernel.cuh"
#include "core/profile.h"
#include "ops/attention/attention.h"
#include "ops/attention/token_rect.h"

namespace sg::attention_cuda {

using cuda::kWarp;
using kernels::AttentionGeometry;
using Rect = kernels::TokenRect<int>;

constexpr int kTile = 64;  // keys whose scores a warp holds, and queries of a block at once
constexpr int kRows = 16;  // queries of a warp at once
constexpr int kWarps = kTile / kRows, kThreads = kWarps * kWarp;
constexpr float kLog2e = 1.44269504f;

template <class T>
constexpr int kVector = 16 / sizeof(T);
template <class T>
constexpr int padded(int width) {
  return width + kVector<T>;
}

// How a group of heads is cut into blocks: (image, window, tile of keys, chunk of queries, head),
// the last runs fastest, so that neighbours read neighbouring memory.
struct Cut {
  int heads, d;
  int h, w, key_h, key_w;
  int query_side_y, query_side_x, key_side_y, key_side_x, windows_y, windows_x;
  int key_tile, key_tiles;  // keys of a window that one block takes, and how many blocks share them
  int chunk_queries, chunks;  // the same of queries
  int64_t q_column, q_ld, kv_column, kv_ld, out_column, out_ld;
  bool vectors;  // all columns can be read 16 bytes at a time
  float scale;

  int64_t windows() const { return int64_t{windows_y} * windows_x; }
  int max_keys() const { return key_side_y * key_side_x; }
  int max_queries() const { return query_side_y * query_side_x; }
};

// The cut in which each block takes a whole window. `maps`: all that vectors are to reach.
inline Cut cut_of(const AttentionGeometry& g, Dtype dtype,
                  std::initializer_list<const void*> maps) {
  const auto side = [](int64_t window, int64_t n) {
    return int(window ? std::min<int64_t>(window, n) : n);
  };
  const int64_t queries = int64_t{g.window} * g.scale;
  Cut c{.heads = g.heads,
        .d = g.head_dim,
        .h = int(g.h),
        .w = int(g.w),
        .key_h = int(g.key_h),
        .key_w = int(g.key_w),
        .query_side_y = side(queries, g.h),
        .query_side_x = side(queries, g.w),
        .key_side_y = side(g.window, g.key_h),
        .key_side_x = side(g.window, g.key_w),
        .q_column = g.q_column,
        .q_ld = g.q_ld,
        .kv_column = g.kv_column,
        .kv_ld = g.kv_ld,
        .out_column = g.out_column,
        .out_ld = g.out_ld,
        .vectors = true,
        .scale = float(1 / std::sqrt(double(g.head_dim)))};
  c.windows_y = int(cuda::ceil_div(g.key_h, c.key_side_y));
  c.windows_x = int(cuda::ceil_div(g.key_w, c.key_side_x));
  c.key_tile = c.max_keys(), c.key_tiles = 1;
  c.chunk_queries = c.max_queries(), c.chunks = 1;
  const int64_t vector = 16 / int64_t(size_of(dtype));
  for (const int64_t n :
       {int64_t{c.d}, c.q_column, c.q_ld, c.kv_column, c.kv_ld, c.out_column, c.out_ld})
    c.vectors &= n % vector == 0;
  for (const void* map : maps) c.vectors &= reinterpret_cast<uintptr_t>(map) % 16 == 0;
  return c;
}

// Elements of the queries of all heads; and the sizes as text, for profile::slow_path().
inline double map_elements(const Cut& c, int64_t images) {
  return double(images) * c.heads * c.d * c.h * c.w;
}
inline std::string name_of(const Cut& c, int64_t images) {
  return fmt::format("{} images of {} x {} queries and {} x {} keys, {} x {} keys a window", images,
                     c.h, c.w, c.key_h, c.key_w, c.key_side_y, c.key_side_x);
}

// Cuts keys in tiles; then queries, where that leaves fewer than `blocks` blocks, in chunks of
// at least 128. Depends on sizes alone, as the order of sums does.
inline void cut_keys(Cut& c, int tile) {
  c.key_tile = tile, c.key_tiles = int(cuda::ceil_div(c.max_keys(), tile));
}
inline void cut_queries(Cut& c, int64_t images, int64_t blocks) {
  const int64_t whole = std::max<int64_t>(images * c.windows() * c.heads * c.key_tiles, 1);
  const int64_t chunks =
      std::clamp<int64_t>(cuda::ceil_div(blocks, whole), 1, cuda::ceil_div(c.max_queries(), 128));
  c.chunk_queries = int(cuda::ceil_div(cuda::ceil_div(c.max_queries(), chunks), kTile) * kTile);
  c.chunks = int(cuda::ceil_div(c.max_queries(), c.chunk_queries));
}
inline unsigned blocks_of(const Cut& c, int64_t images) {
  const int64_t n = images * c.windows() * c.key_tiles * c.chunks * c.heads;
  check(n <= std::numeric_limits<int>::max(), "attention: {} blocks are more than a launch takes",
        n);
  return unsigned(n);
}

struct Unit {
  int64_t image, row;  // row: image * heads + head
  int head;
  Rect queries, keys;
  int begin, end;          // of the queries of the window
  int key_begin, key_end;  // of its keys
};

// By value: std::min takes addresses, which constants do not have on the device.
__device__ __forceinline__ int least(int a, int b) { return a < b ? a : b; }

__device__ __forceinline__ Unit unit_of(const Cut& c, unsigned index) {
  const auto take = [&](int n) {
    const unsigned i = index % unsigned(n);
    index /= unsigned(n);
    return int(i);
  };
  Unit u;
  u.head = take(c.heads);
  const int chunk = take(c.chunks), tile = take(c.key_tiles);
  const int x = take(c.windows_x), y = take(c.windows_y);
  u.image = index, u.row = u.image * c.heads + u.head;
  const auto rect = [&](int side_y, int side_x, int h, int w) {
    return kernels::token_rect(y * side_y, x * side_x, least(side_y, h - y * side_y),
                               least(side_x, w - x * side_x), w);
  };
  u.queries = rect(c.query_side_y, c.query_side_x, c.h, c.w);
  u.keys = rect(c.key_side_y, c.key_side_x, c.key_h, c.key_w);
  u.begin = least(chunk * c.chunk_queries, u.queries.count);
  u.end = least(u.begin + c.chunk_queries, u.queries.count);
  u.key_begin = least(tile * c.key_tile, u.keys.count);
  u.key_end = least(u.key_begin + c.key_tile, u.keys.count);
  return u;
}

// Columns of one head in the map of one image.
template <class T>
struct Map {
  T* data;
  int64_t ld;
};
template <class T>
__device__ Map<T> queries_of(const Cut& c, const Unit& u, T* q) {
  return {q + u.image * c.h * c.w * c.q_ld + c.q_column + u.head * c.d, c.q_ld};
}
template <class T>
__device__ Map<T> outputs_of(const Cut& c, const Unit& u, T* out) {
  return {out + u.image * c.h * c.w * c.out_ld + c.out_column + u.head * c.d, c.out_ld};
}
template <class T>
__device__ Map<T> keys_of(const Cut& c, const Unit& u, T* kv) {
  return {kv + u.image * c.key_h * c.key_w * c.kv_ld + c.kv_column + u.head * c.d, c.kv_ld};
}
template <class T>
__device__ Map<T> values_of(const Cut& c, const Unit& u, T* kv) {
  return {keys_of(c, u, kv).data + int64_t{c.heads} * c.d, c.kv_ld};
}

// `thread` of `threads` that work together.
struct Team {
  int thread, threads;
};
__device__ __forceinline__ Team block_team() { return {int(threadIdx.x), int(blockDim.x)}; }
__device__ __forceinline__ Team warp_team() { return {int(threadIdx.x % kWarp), kWarp}; }

// Tokens [begin, begin + rows) of a rectangle to rows in shared memory; zeros where the token is
// not below `end`, and past column d. Copies may be asynchronous: commit, and wait for them.
template <int D, class T>
__device__ __forceinline__ void load_rows(const Cut& c, Team team, Map<const T> from,
                                          const Rect& rect, int begin, int end, int rows, T* to) {
  constexpr int V = kVector<T>, C = D / V;
  for (int i = team.thread; i < rows * C; i += team.threads) {
    const int row = begin + i / C, column = i % C * V;
    T* const at = to + i / C * padded<T>(D) + column;
    const bool real = row < end && column < c.d;
    const T* const source = real ? from.data + rect.token(row) * from.ld + column : from.data;
    if (c.vectors) {
      cuda::copy_async_16(at, source, real ? 16 : 0);
    } else {
      for (int j = 0; j < V; ++j)
        at[j] = real && column + j < c.d ? source[j] : cuda::from_float<T>(0);
    }
  }
}
// The reverse: from shared memory to the map.
template <int D, class T>
__device__ __forceinline__ void store_rows(const Cut& c, Team team, const T* from, Map<T> to,
                                           const Rect& rect, int begin, int end, int rows) {
  constexpr int V = kVector<T>, C = D / V;
  for (int i = team.thread; i < rows * C; i += team.threads) {
    const int row = begin + i / C, column = i % C * V;
    if (row >= end || column >= c.d) continue;
    const T* const source = from + i / C * padded<T>(D) + column;
    T* const at = to.data + rect.token(row) * to.ld + column;
    if (c.vectors) {
      cuda::store<V>(at, cuda::load<V>(source));
    } else {
      for (int j = 0; j < V && column + j < c.d; ++j) at[j] = source[j];
    }
  }
}

// Rows and columns of the elements i = 0..3 of a 16 x 8 sum that a lane holds.
struct AccumulatorLane {
  int g, t;
  __device__ int row(int i) const { return g + i / 2 * 8; }
  __device__ int column(int n, int i) const { return 8 * n + 2 * t + i % 2; }
};
__device__ __forceinline__ AccumulatorLane accumulator_lane() {
  const int lane = threadIdx.x % kWarp;
  return {lane / 4, lane % 4};
}

// acc (16 x 8 N) += a (16 x 16 steps) b (16 steps x 8 N), all operands in shared memory. a is
// stored by its rows, or by its columns; b by its rows (of N elements), or by its columns.
// Columns from `live` on are left out, two groups of 8 at a time.
enum class By { rows, columns };
template <By A, By B, int N>
__device__ __forceinline__ void multiply(float (&acc)[N][4], const bf16* a, int lda, const bf16* b,
                                         int ldb, int steps, int live = 8 * N) {
  const int lane = threadIdx.x % kWarp, r = lane % 8, low = lane / 8 % 2 * 8, high = lane / 16 * 8;
#pragma unroll 2
  for (int s = 0; s < steps; ++s) {
    uint32_t fa[4];
    if constexpr (A == By::rows)
      cuda::load_matrices<false>(fa, a + (low + r) * lda + 16 * s + high);
    else
      cuda::load_matrices<true>(fa, a + (16 * s + high + r) * lda + low);
#pragma unroll
    for (int n = 0; n < N; n += 2) {
      if (8 * n >= live) continue;
      uint32_t fb[4];
      if constexpr (B == By::columns)
        cuda::load_matrices<false>(fb, b + (8 * n + high + r) * ldb + 16 * s + low);
      else
        cuda::load_matrices<true>(fb, b + (16 * s + low + r) * ldb + 8 * n + high);
      cuda::mma_16x8x16(acc[n], fa, {fb[0], fb[1]});
      cuda::mma_16x8x16(acc[n + 1], fa, {fb[2], fb[3]});
    }
  }
}
// Elements k to k + 3 of row i, where rows are stored `along`; else of column i.
template <bool along>
__device__ __forceinline__ cuda::Vec<float, 4> four(const float* p, int ld, int i, int k) {
  if constexpr (along) {
    return cuda::load<4>(p + i * ld + k);
  } else {
    return {p[k * ld + i], p[(k + 1) * ld + i], p[(k + 2) * ld + i], p[(k + 3) * ld + i]};
  }
}
template <By A, By B, int N>
__device__ __forceinline__ void multiply(float (&acc)[N][4], const float* a, int lda,
                                         const float* b, int ldb, int steps, int live = 8 * N) {
  const AccumulatorLane at = accumulator_lane();
  for (int k = 0; k < 16 * steps; k += 4) {
    const cuda::Vec<float, 4> rows[2] = {four<A == By::rows>(a, lda, at.g, k),
                                         four<A == By::rows>(a, lda, at.g + 8, k)};
#pragma unroll
    for (int n = 0; n < N; ++n) {
      if (8 * n >= live) continue;
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const cuda::Vec<float, 4> column = four<B == By::columns>(b, ldb, at.column(n, j), k);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          acc[n][j] = fmaf(rows[0][i], column[i], acc[n][j]);
          acc[n][j + 2] = fmaf(rows[1][i], column[i], acc[n][j + 2]);
        }
      }
    }
  }
}

__device__ __forceinline__ void store_pair(bf16* p, float a, float b) {
  *reinterpret_cast<uint32_t*>(p) = cuda::pack_bf16(a, b);
}
__device__ __forceinline__ void store_pair(float* p, float a, float b) {
  cuda::store<2>(p, cuda::Vec<float, 2>{a, b});
}
// Sums to shared or device memory, the rows of a lane times factors.
template <int N, class T>
__device__ __forceinline__ void put(const float (&acc)[N][4], float first, float second, T* to,
                                    int ld) {
  const AccumulatorLane at = accumulator_lane();
#pragma unroll
  for (int n = 0; n < N; ++n) {
    store_pair(to + at.row(0) * ld + at.column(n, 0), acc[n][0] * first, acc[n][1] * first);
    store_pair(to + at.row(2) * ld + at.column(n, 0), acc[n][2] * second, acc[n][3] * second);
  }
}

// Sets the columns of a sum from `live` on. Most often that is none, or some of the last 16.
template <int N>
__device__ __forceinline__ void set_columns(float (&acc)[N][4], int live, float value) {
  const int own = live - 2 * accumulator_lane().t;
  const auto set = [&](int n) {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (8 * n + i % 2 >= own) acc[n][i] = value;
  };
  if (live == 8 * N) return;
  set(N - 2), set(N - 1);
  if (live >= 8 * (N - 2)) return;
#pragma unroll
  for (int n = 0; n < N - 2; ++n) set(n);
}

// acc (16 x 8 N) += a b as above, with a (16 x 8 K) in registers as the sum that it was. In float
// it goes through `scratch`, 16 rows of shared memory that are the warp's own.
template <int K, int N>
__device__ __forceinline__ void multiply_sum(float (&acc)[N][4], const float (&a)[K][4], bf16*,
                                             const bf16* b, int ldb, int steps) {
  const int lane = threadIdx.x % kWarp, r = lane % 8, low = lane / 8 % 2 * 8, high = lane / 16 * 8;
#pragma unroll
  for (int s = 0; s < K / 2; ++s) {
    if (s >= steps) continue;
    const float(&left)[4] = a[2 * s], (&right)[4] = a[2 * s + 1];
    const uint32_t fa[4] = {cuda::pack_bf16(left[0], left[1]), cuda::pack_bf16(left[2], left[3]),
                            cuda::pack_bf16(right[0], right[1]),
                            cuda::pack_bf16(right[2], right[3])};
#pragma unroll
    for (int n = 0; n < N; n += 2) {
      uint32_t fb[4];
      cuda::load_matrices<true>(fb, b + (16 * s + low + r) * ldb + 8 * n + high);
      cuda::mma_16x8x16(acc[n], fa, {fb[0], fb[1]});
      cuda::mma_16x8x16(acc[n + 1], fa, {fb[2], fb[3]});
    }
  }
}
template <int K, int N>
__device__ __forceinline__ void multiply_sum(float (&acc)[N][4], const float (&a)[K][4],
                                             float* scratch, const float* b, int ldb, int steps) {
  __syncwarp();
  put(a, 1, 1, scratch, padded<float>(8 * K));
  __syncwarp();
  multiply<By::rows, By::rows>(acc, scratch, padded<float>(8 * K), b, ldb, steps);
}
// Elements of that scratch memory.
template <class T>
constexpr int kScratch = sizeof(T) == 4 ? kRows* padded<T>(kTile) : 0;

// f.template operator()<D>() with the width that rows of d elements are filled up to.
template <class F>
void with_width(int d, const F& f) {
  if (d <= 32) return f.template operator()<32>();
  f.template operator()<64>();
}

}  // namespace sg::attention_cuda
