// Backward. With p the probabilities, made again from q, k and the log-sum-exp:
//   dv = p^T dout,  dp = dout v^T,  delta = rowsum(p dp),  ds = p (dp - delta),
//   dq = ds k scale,  dk = ds^T q scale.
// A block takes the keys of one window of one head and a chunk of its queries, a tile at a time,
// while the next tile is copied. A warp makes p and ds of 16 queries in registers and leaves them,
// rounded to the operands' type, in shared memory; then each warp adds to the dk and dv of 16 keys,
// which it keeps in registers to the end, and makes its part of dq. Memory: q and dout are read
// once, dq, dk and dv written once; where queries are cut in chunks, their dk and dv are written in
// float and added in order by a second kernel.
// Windows of more keys than a block holds: one kernel takes 64 queries through all keys twice, for
// delta and for dq; then blocks of 64 keys make dk and dv as above.
#include "ops/attention/attention_cuda.cuh"

namespace sg {
namespace {

using namespace attention_cuda;
using kernels::AttentionGeometry;

template <class T>
struct Backward {
  Cut cut;
  const T *dout, *q, *kv;
  const float* lse;
  T *dq, *dkv;
  float* delta;  // (B, heads, H * W), where a block has not all keys of a window
  float*
      partial;  // (blocks, 2, key_tile, D): dk and dv of a chunk of queries, where there are many
};

// Scores -> probabilities p, and dp, of 16 queries and the first `live` of 8 N keys. shift: of a
// lane's two rows.
template <int D, int N, class T>
__device__ __forceinline__ void probabilities(const T* q, const T* dout, const T* k, const T* v,
                                              int live, float factor, const float (&shift)[2],
                                              float (&p)[N][4], float (&dp)[N][4]) {
  constexpr int S = padded<T>(D);
#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) p[n][i] = dp[n][i] = 0;
  multiply<By::rows, By::columns>(p, q, S, k, S, D / 16, live);
  multiply<By::rows, By::columns>(dp, dout, S, v, S, D / 16, live);
  set_columns(p, live, -INFINITY);
#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      p[n][i] = 8 * n < live ? cuda::exp2_fast(fmaf(p[n][i], factor, shift[i / 2])) : 0;
}

// rowsum(p dp) of a lane's two rows, over the keys of the warp.
template <int N>
__device__ __forceinline__ void add_delta(const float (&p)[N][4], const float (&dp)[N][4],
                                          float (&delta)[2]) {
  float sum[2] = {};
#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) sum[i / 2] = fmaf(p[n][i], dp[n][i], sum[i / 2]);
#pragma unroll
  for (int r = 0; r < 2; ++r) delta[r] += cuda::warp_sum<4>(sum[r]);
}

// The backward of softmax: dp becomes ds = p (dp - delta).
template <int N>
__device__ __forceinline__ void softmax_backward(const float (&p)[N][4], float (&dp)[N][4],
                                                 const float (&delta)[2]) {
#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) dp[n][i] = p[n][i] * (dp[n][i] - delta[i / 2]);
}

// The numbers of the rows of a lane in (B, heads, H * W), 0 for queries that are not there: those
// are zeros in shared memory, and with a finite p they add nothing to any sum.
__device__ __forceinline__ void load_two(const Cut& c, const Unit& u, const float* from, int first,
                                         float (&to)[2]) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int row = first + accumulator_lane().row(2 * r);
    to[r] = row < u.end ? from[u.row * c.h * c.w + u.queries.token(row)] : 0;
  }
}

// The shape of a block: Groups of warps, each group with 8 N keys of its own for the same queries;
// there are as many warps as there are 16 keys.
template <class T, int D, int N, int Groups>
struct BlockShape {
  static constexpr int kKeys = 8 * N * Groups, kSets = N / 2, kQueries = kSets * kRows;
  static constexpr int kThreads = kSets * Groups * kWarp;
  static constexpr int S = padded<T>(D), P = padded<T>(kKeys);
  static constexpr size_t kShared =
      sizeof(T) * (2 * kKeys * S + 5 * kQueries * S + 2 * kQueries * P);
  // Compute capability 8.0 has 163 KiB a block, 9.0 has more.
  static constexpr bool kFits = kShared <= (160 << 10) && kThreads <= 1024;
};

// Resident blocks of a multiprocessor, at least, for __launch_bounds__.
template <class T, int D, int Groups>
constexpr int kMinBlocksPerSM = sizeof(T) == 4 || D > 32 ? 1
                                : Groups == 1            ? 4
                                                         : 2;

// Whole: the block has all keys of the window; else delta is given and dq is made elsewhere.
template <class T, int D, int N, int Groups, bool Whole>
__global__ void __launch_bounds__(BlockShape<T, D, N, Groups>::kThreads,
                                  kMinBlocksPerSM<T, D, Groups>) backward_kernel(Backward<T> p) {
  using Is = BlockShape<T, D, N, Groups>;
  constexpr int S = Is::S, P = Is::P, kQueries = Is::kQueries;
  const Cut& c = p.cut;
  __shared__ Unit u;  // spares registers
  if (threadIdx.x == 0) u = unit_of(c, blockIdx.x);
  __syncthreads();
  T* const k = cuda::dynamic_shared<T>();
  T *const v = k + Is::kKeys * S, *const q_tiles = v + Is::kKeys * S;
  T *const dout_tiles = q_tiles + 2 * kQueries * S, *const dq_tile = dout_tiles + 2 * kQueries * S;
  T *const p_tile = dq_tile + kQueries * S, *const ds_tile = p_tile + kQueries * P;
  const int warp = threadIdx.x / kWarp, set = warp % Is::kSets, group = warp / Is::kSets;
  const int keys = u.key_end - u.key_begin, live = least(keys - group * 8 * N, 8 * N);

  const auto load_queries = [&](int first) {
    const int at = first / kQueries % 2 * kQueries * S;
    load_rows<D>(c, block_team(), queries_of(c, u, p.q), u.queries, first, u.end, kQueries,
                 q_tiles + at);
    load_rows<D>(c, block_team(), outputs_of(c, u, p.dout), u.queries, first, u.end, kQueries,
                 dout_tiles + at);
  };
  const auto store_queries = [&](int first) {
    if (Whole && first >= u.begin)
      store_rows<D>(c, block_team(), dq_tile, queries_of(c, u, p.dq), u.queries, first, u.end,
                    kQueries);
  };
  load_rows<D>(c, block_team(), keys_of(c, u, p.kv), u.keys, u.key_begin, u.key_end, Is::kKeys, k);
  load_rows<D>(c, block_team(), values_of(c, u, p.kv), u.keys, u.key_begin, u.key_end, Is::kKeys,
               v);
  if (u.begin < u.end) load_queries(u.begin);
  cuda::commit_copies();

  float dk[D / 8][4] = {}, dv[D / 8][4] = {};
  for (int first = u.begin; first < u.end; first += kQueries) {
    const int rows = first + set * kRows, at = first / kQueries % 2 * kQueries * S;
    const T *const q = q_tiles + at, *const dout = dout_tiles + at;
    float lse[2], delta[2] = {};
    load_two(c, u, p.lse, rows, lse);
    if (!Whole) load_two(c, u, p.delta, rows, delta);
    cuda::wait_copies<0>();
    __syncthreads();
    store_queries(first - kQueries);
    if (first + kQueries < u.end) load_queries(first + kQueries);
    cuda::commit_copies();

    const bool active = live > 0 && rows < u.end;
    float prob[N][4], ds[N][4];
    if (active) {
      const float shift[2] = {-kLog2e * lse[0], -kLog2e * lse[1]};
      probabilities<D>(q + set * kRows * S, dout + set * kRows * S, k + group * 8 * N * S,
                       v + group * 8 * N * S, live, c.scale * kLog2e, shift, prob, ds);
      if (Whole) add_delta(prob, ds, delta);
    }
    if constexpr (Whole && Groups > 1) {
      __shared__ float parts[Groups][kQueries];
      const AccumulatorLane here = accumulator_lane();
      if (here.t < 2)
        parts[group][set * kRows + here.row(2 * here.t)] = here.t == 0 ? delta[0] : delta[1];
      __syncthreads();
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        delta[r] = 0;
        for (int i = 0; i < Groups; ++i) delta[r] += parts[i][set * kRows + here.row(2 * r)];
      }
    }
    if (active) {
      softmax_backward(prob, ds, delta);
      const int to = set * kRows * P + group * 8 * N;
      put(prob, 1, 1, p_tile + to, P), put(ds, 1, 1, ds_tile + to, P);
    }
    __syncthreads();
    if (warp * 16 < keys) {
      const int sets = (least(u.end - first, kQueries) + kRows - 1) / kRows;
      multiply<By::columns, By::rows>(dv, p_tile + warp * 16, P, dout, S, sets);
      multiply<By::columns, By::rows>(dk, ds_tile + warp * 16, P, q, S, sets);
    }
    if (Whole && rows < u.end) {
      constexpr int kPart = Groups == 1 ? D : 16;  // columns of dq that a warp makes at once
      for (int column = group * kPart; column < D; column += Groups * kPart) {
        float dq[kPart / 8][4] = {};
        multiply<By::rows, By::rows>(dq, ds_tile + set * kRows * P, P, k + column, S,
                                     (keys + 15) / 16);
        put(dq, c.scale, c.scale, dq_tile + set * kRows * S + column, S);
      }
    }
  }

  cuda::wait_copies<0>();
  __syncthreads();
  if (u.begin < u.end) store_queries((u.end - 1 - u.begin) / kQueries * kQueries + u.begin);
  if (warp * 16 >= keys) return;
  if (p.partial) {
    float* const to = p.partial + (int64_t{blockIdx.x} * 2 * c.key_tile + warp * 16) * D;
    put(dk, c.scale, c.scale, to, D);
    put(dv, 1, 1, to + int64_t{c.key_tile} * D, D);
    return;
  }
  // dk and dv leave through the shared memory of keys and values, which are not needed any more.
  const int first = u.key_begin + warp * 16;
  put(dk, c.scale, c.scale, k + warp * 16 * S, S), put(dv, 1, 1, v + warp * 16 * S, S);
  __syncwarp();
  store_rows<D>(c, warp_team(), k + warp * 16 * S, keys_of(c, u, p.dkv), u.keys, first, u.key_end,
                16);
  store_rows<D>(c, warp_team(), v + warp * 16 * S, values_of(c, u, p.dkv), u.keys, first, u.key_end,
                16);
}

// Adds the partial sums of the chunks: a block per window, tile of keys and head.
template <class T, int D>
__global__ void add_chunks_kernel(Cut one, int chunks, const float* partial, T* dkv) {
  const Unit u = unit_of(one, blockIdx.x);
  const int64_t size = int64_t{2} * one.key_tile * D;
  const float* const from =
      partial + (int64_t{blockIdx.x} / one.heads * chunks * one.heads + u.head) * size;
  const Map<T> dk = keys_of(one, u, dkv);
  const int keys = u.key_end - u.key_begin;
  for (int i = threadIdx.x; i < 2 * keys * D; i += blockDim.x) {
    const int column = i % D, key = i / D % keys, second = i / D / keys;
    if (column >= one.d) continue;
    float sum = 0;
    for (int n = 0; n < chunks; ++n)
      sum += from[n * one.heads * size + (int64_t{second} * one.key_tile + key) * D + column];
    const int64_t at =
        u.keys.token(u.key_begin + key) * dk.ld + second * one.heads * one.d + column;
    dk.data[at] = cuda::from_float<T>(sum);
  }
}

// delta and dq of 64 queries of a window, any number of keys: a warp takes 16 queries.
template <class T, int D>
__global__ void __launch_bounds__(kThreads) rows_kernel(Backward<T> p) {
  constexpr int S = padded<T>(D);
  const Cut& c = p.cut;
  const Unit u = unit_of(c, blockIdx.x);
  const int warp = threadIdx.x / kWarp, first = u.begin + warp * kRows;
  T* const k = cuda::dynamic_shared<T>();
  T *const v = k + kTile * S, *const q = v + kTile * S + warp * (2 * kRows * S + kScratch<T>);
  T *const dout = q + kRows * S, *const scratch = dout + kRows * S;
  load_rows<D>(c, warp_team(), queries_of(c, u, p.q), u.queries, first, u.end, kRows, q);
  load_rows<D>(c, warp_team(), outputs_of(c, u, p.dout), u.queries, first, u.end, kRows, dout);
  float lse[2], delta[2] = {}, dq[D / 8][4] = {};
  load_two(c, u, p.lse, first, lse);
  const float shift[2] = {-kLog2e * lse[0], -kLog2e * lse[1]};
  for (int pass = 0; pass < 2; ++pass)
    for (int key = 0; key < u.keys.count; key += kTile) {
      __syncthreads();
      load_rows<D>(c, block_team(), keys_of(c, u, p.kv), u.keys, key, u.keys.count, kTile, k);
      load_rows<D>(c, block_team(), values_of(c, u, p.kv), u.keys, key, u.keys.count, kTile, v);
      cuda::commit_copies();
      cuda::wait_copies<0>();
      __syncthreads();
      const int live = least(kTile, u.keys.count - key);
      if (first >= u.end) continue;
      float prob[kTile / 8][4], ds[kTile / 8][4];
      probabilities<D>(q, dout, k, v, live, c.scale * kLog2e, shift, prob, ds);
      if (pass == 0) {
        add_delta(prob, ds, delta);
      } else {
        softmax_backward(prob, ds, delta);
        multiply_sum(dq, ds, scratch, k, S, (live + 15) / 16);
      }
    }
  const AccumulatorLane at = accumulator_lane();
  if (at.t < 2) {
    const int row = first + at.row(2 * at.t);
    if (row < u.end)
      p.delta[u.row * c.h * c.w + u.queries.token(row)] = at.t == 0 ? delta[0] : delta[1];
  }
  put(dq, c.scale, c.scale, q, S);
  __syncwarp();
  store_rows<D>(c, warp_team(), q, queries_of(c, u, p.dq), u.queries, first, u.end, kRows);
}

template <class T, int D, int N, int Groups, bool Whole>
void launch_backward(Stream& stream, Backward<T> p, int64_t images) {
  using Is = BlockShape<T, D, N, Groups>;
  static_assert(Is::kFits);
  constexpr int64_t kBlocks = 1024;
  cut_keys(p.cut, Is::kKeys), cut_queries(p.cut, images, kBlocks);
  const unsigned blocks = blocks_of(p.cut, images);
  Tensor partial;
  if (p.cut.chunks > 1) {
    partial = empty({int64_t{blocks}, 2, p.cut.key_tile, D}, Dtype::f32, stream.device);
    p.partial = partial.data<float>();
  }
  cuda::launch(stream, {"attention.bwd", blocks, Is::kThreads, Is::kShared},
               backward_kernel<T, D, N, Groups, Whole>, p);
  if (!partial) return;
  Cut one = p.cut;
  one.chunks = 1, one.chunk_queries = one.max_queries();
  cuda::launch(stream, {"attention.add_chunks", blocks_of(one, images), 256},
               add_chunks_kernel<T, D>, one, p.cut.chunks, p.partial, p.dkv);
}

template <class T, int D>
void backward_of(Stream& stream, Backward<T> p, int64_t images) {
  const int keys = p.cut.max_keys();
  if (keys <= kTile) return launch_backward<T, D, 8, 1, true>(stream, p, images);
  using Wide = BlockShape<T, D, 4, 5>;
  if constexpr (Wide::kFits)
    if (keys <= Wide::kKeys) return launch_backward<T, D, 4, 5, true>(stream, p, images);
  profile::slow_path("attention.bwd",
                     "queries and their gradients are read twice where a block does not hold the "
                     "keys of a window",
                     2 * map_elements(p.cut, images) * sizeof(T),
                     [&] { return name_of(p.cut, images); });
  Tensor delta =
      empty({images, p.cut.heads, int64_t{p.cut.h} * p.cut.w}, Dtype::f32, stream.device);
  p.delta = delta.data<float>();
  Backward<T> rows = p;
  rows.cut.chunk_queries = kTile;
  rows.cut.chunks = int(cuda::ceil_div(p.cut.max_queries(), kTile));
  const size_t shared =
      sizeof(T) * (2 * kTile * padded<T>(D) + kWarps * (2 * kRows * padded<T>(D) + kScratch<T>));
  cuda::launch(stream, {"attention.bwd_rows", blocks_of(rows.cut, images), kThreads, shared},
               rows_kernel<T, D>, rows);
  launch_backward<T, D, 8, 1, false>(stream, p, images);
}

void backward(Stream& stream, In dout, In q, In kv, In lse, const AttentionGeometry& g, Out dq,
              Out dkv) {
  dispatch<float, bf16>(q.dtype(), "attention", [&]<class T>() {
    const Backward<T> p{cut_of(g, q.dtype(), {dout.raw(), q.raw(), kv.raw(), dq.raw(), dkv.raw()}),
                        dout.data<T>(),
                        q.data<T>(),
                        kv.data<T>(),
                        lse.data<float>(),
                        dq.data<T>(),
                        dkv.data<T>(),
                        nullptr,
                        nullptr};
    with_width(g.head_dim, [&]<int D>() { backward_of<T, D>(stream, p, g.batch); });
  });
}
const Register r{kernels::attention_bwd, DeviceType::cuda, backward};

}  // namespace
}  // namespace sg
