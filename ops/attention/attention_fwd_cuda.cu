// Forward. A block takes some queries of one window of one head against all its keys, which are
// read into shared memory once (streamed in tiles of 64 where they do not fit); each warp takes 16
// queries at a time, the next 16 being copied meanwhile. Scores and probabilities stay in
// registers; where keys are more than 64, the softmax is corrected as larger scores are met.
// Memory: q, k, v are read once (k, v once a chunk of queries, from L2) and out is written once.
// The attention that keys receive is summed in the same pass where a window has at most 64 keys;
// beyond, a second kernel makes the probabilities once more from q, k and the log-sum-exp.
#include "ops/attention/attention_cuda.cuh"

namespace sg {
namespace {

using namespace attention_cuda;
using kernels::AttentionGeometry;

template <class T>
struct Forward {
  Cut cut;
  const T *q, *kv;
  T* out;
  float *lse, *received;
  float* partial;  // (blocks, kTile): what keys receive of a chunk of queries, where there are many
  int key_rows;    // of shared memory
};

// Tiles of queries of one warp: two in turn, one being computed with and one being copied.
template <int D, class T>
class Queries {
 public:
  __device__ Queries(const Cut& cut, Map<const T> map, const Unit& u, T* shared)
      : cut_(cut), map_(map), u_(u), shared_(shared) {}
  __device__ T* tile(int first) const { return shared_ + first / kTile % 2 * kRows * padded<T>(D); }
  __device__ void load(int first) const {
    if (first < u_.end)
      load_rows<D>(cut_, warp_team(), map_, u_.queries, first, u_.end, kRows, tile(first));
    cuda::commit_copies();
  }
  // Tile `first` once it is there; the next one is asked for.
  __device__ T* next(int first) const {
    load(first + kTile);
    cuda::wait_copies<1>();
    __syncwarp();
    return tile(first);
  }

 private:
  const Cut& cut_;
  const Map<const T> map_;
  const Unit& u_;
  T* const shared_;
};

// Two rows of a warp's queries, by lane: their softmax so far.
template <int D>
struct Softmax {
  float top[2] = {-INFINITY, -INFINITY};
  float sum[2] = {};         // of the lane's own keys
  float out[D / 8][4] = {};  // not yet divided by the sum
};

// A step of the online softmax: adds the first `live` of kTile more keys to the state of two rows.
// p: receives their exponentials, that is the probabilities before they are divided by the sum.
template <int D, class T>
__device__ __forceinline__ void attend(const T* q, const T* k, const T* v, T* scratch, int live,
                                       float factor, bool first, Softmax<D>& state,
                                       float (&p)[kTile / 8][4]) {
  constexpr int S = padded<T>(D), N = kTile / 8;
#pragma unroll
  for (auto& n : p)
    for (float& x : n) x = 0;
  multiply<By::rows, By::columns>(p, q, S, k, S, D / 16, live);
  set_columns(p, live, -INFINITY);
  float top[2] = {state.top[0], state.top[1]}, shift[2];
#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) top[i / 2] = fmaxf(top[i / 2], p[n][i]);
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    top[r] = cuda::warp_max<4>(top[r]);
    shift[r] = -top[r] * factor;
    if (first) continue;
    const float correction = cuda::exp2_fast(fmaf(state.top[r], factor, shift[r]));
    state.sum[r] *= correction;
#pragma unroll
    for (auto& n : state.out) n[2 * r] *= correction, n[2 * r + 1] *= correction;
  }
  state.top[0] = top[0], state.top[1] = top[1];
#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      p[n][i] = 8 * n < live ? cuda::exp2_fast(fmaf(p[n][i], factor, shift[i / 2])) : 0;
      state.sum[i / 2] += p[n][i];
    }
  multiply_sum(state.out, p, scratch, v, S, (live + 15) / 16);
}

// The attention that keys receive: a lane's columns of probabilities, summed over its rows.
struct Received {
  float sum[kTile / 8][2] = {};
  __device__ void add(const float (&p)[kTile / 8][4], float first, float second) {
#pragma unroll
    for (int n = 0; n < kTile / 8; ++n)
#pragma unroll
      for (int j = 0; j < 2; ++j) sum[n][j] += p[n][j] * first + p[n][j + 2] * second;
  }
  // Sums over the block, in the order of rows and warps, to where they belong.
  __device__ void store(const Cut& c, const Unit& u, float* received, float* partial) const {
    __shared__ float all[kWarps][kTile];
    const AccumulatorLane at = accumulator_lane();
#pragma unroll
    for (int n = 0; n < kTile / 8; ++n)
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        float v = sum[n][j];
#pragma unroll
        for (int lanes = 4; lanes < kWarp; lanes *= 2) v += cuda::shuffle_xor(v, lanes);
        if (at.g == 0) all[threadIdx.x / kWarp][at.column(n, j)] = v;
      }
    __syncthreads();
    const int i = threadIdx.x, key = u.key_begin + i;
    if (key >= u.key_end) return;
    float v = 0;
    for (int w = 0; w < kWarps; ++w) v += all[w][i];
    if (partial)
      partial[int64_t{blockIdx.x} * kTile + i] = v;
    else
      received[u.row * c.key_h * c.key_w + u.keys.token(key)] = v;
  }
};

// Resident blocks of a multiprocessor, at least: as many as leave registers for what a thread
// holds.
template <class T, int D>
constexpr int kMinBlocksPerSM = sizeof(T) == 4 || D > 32 ? 3 : 4;

template <class T, int D>
__global__ void __launch_bounds__(kThreads, kMinBlocksPerSM<T, D>) forward_kernel(Forward<T> p) {
  constexpr int S = padded<T>(D);
  const Cut& c = p.cut;
  const Unit u = unit_of(c, blockIdx.x);
  const int warp = threadIdx.x / kWarp, keys = u.keys.count;
  T* const k = cuda::dynamic_shared<T>();
  T* const v = k + p.key_rows * S;
  T* const own = v + p.key_rows * S + warp * (2 * kRows * S + kScratch<T>);
  T* const scratch = own + 2 * kRows * S;
  const Queries<D, T> queries(c, queries_of(c, u, p.q), u, own);
  const auto load_keys = [&](int begin, int rows) {
    load_rows<D>(c, block_team(), keys_of(c, u, p.kv), u.keys, begin, keys, rows, k);
    load_rows<D>(c, block_team(), values_of(c, u, p.kv), u.keys, begin, keys, rows, v);
    cuda::commit_copies();
    cuda::wait_copies<0>();
    __syncthreads();
  };

  Received received;
  const bool resident = keys <= p.key_rows;
  queries.load(u.begin + warp * kRows);
  if (resident) load_keys(0, (keys + 15) / 16 * 16);
  // Keys that are streamed take all warps through each round.
  for (int round = u.begin; round < u.end; round += kTile) {
    const int first = round + warp * kRows;
    if (resident && first >= u.end) break;
    T* const q = queries.next(first);
    Softmax<D> state;
    float probability[kTile / 8][4];
    for (int key = 0; key < keys; key += kTile) {
      if (!resident) __syncthreads(), load_keys(key, kTile);
      const int at = resident ? key * S : 0;
      if (first < u.end)
        attend<D>(q, k + at, v + at, scratch, least(kTile, keys - key), c.scale * kLog2e, key == 0,
                  state, probability);
    }
    if (first >= u.end) continue;
    float inverse[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float sum = cuda::warp_sum<4>(state.sum[r]);
      const int row = first + accumulator_lane().row(2 * r);
      inverse[r] = row < u.end ? 1 / sum : 0;
      if (p.lse && row < u.end && accumulator_lane().t == 0)
        p.lse[u.row * c.h * c.w + u.queries.token(row)] = state.top[r] * c.scale + logf(sum);
    }
    if (p.received && keys <= kTile) received.add(probability, inverse[0], inverse[1]);
    __syncwarp();
    put(state.out, inverse[0], inverse[1], q, S);
    __syncwarp();
    store_rows<D>(c, warp_team(), q, outputs_of(c, u, p.out), u.queries, first, u.end, kRows);
    __syncwarp();
  }
  if (p.received && keys <= kTile) received.store(c, u, p.received, p.partial);
}

// The attention that keys receive, from the log-sum-exp: a block takes 64 keys and a chunk of
// queries.
template <class T, int D>
__global__ void __launch_bounds__(kThreads) received_kernel(Forward<T> p) {
  constexpr int S = padded<T>(D);
  const Cut& c = p.cut;
  const Unit u = unit_of(c, blockIdx.x);
  T* const k = cuda::dynamic_shared<T>();
  const int warp = threadIdx.x / kWarp, live = u.key_end - u.key_begin;
  const Queries<D, T> queries(c, queries_of(c, u, p.q), u, k + kTile * S + warp * 2 * kRows * S);
  queries.load(u.begin + warp * kRows);
  load_rows<D>(c, block_team(), keys_of(c, u, p.kv), u.keys, u.key_begin, u.key_end, kTile, k);
  cuda::commit_copies();
  cuda::wait_copies<0>();
  __syncthreads();
  Received received;
  for (int first = u.begin + warp * kRows; first < u.end; first += kTile) {
    const T* const q = queries.next(first);
    float s[kTile / 8][4] = {}, one[2], shift[2];
    multiply<By::rows, By::columns>(s, q, S, k, S, D / 16, live);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = first + accumulator_lane().row(2 * r);
      one[r] = row < u.end ? 1 : 0;
      shift[r] = row < u.end ? -kLog2e * p.lse[u.row * c.h * c.w + u.queries.token(row)] : 0;
    }
#pragma unroll
    for (int n = 0; n < kTile / 8; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        s[n][i] = cuda::exp2_fast(fmaf(s[n][i], c.scale * kLog2e, shift[i / 2]));
    received.add(s, one[0], one[1]);
    __syncwarp();
  }
  received.store(c, u, p.received, p.partial);
}

// Adds the partial sums of the chunks: a block per window, tile of keys and head.
__global__ void add_received_kernel(Cut one, int chunks, const float* partial, float* received) {
  const Unit u = unit_of(one, blockIdx.x);
  const int key = u.key_begin + int(threadIdx.x);
  if (key >= u.key_end) return;
  const int64_t first = int64_t{blockIdx.x} / one.heads * chunks * one.heads + u.head;
  float sum = 0;
  for (int i = 0; i < chunks; ++i) sum += partial[(first + i * one.heads) * kTile + threadIdx.x];
  received[u.row * one.key_h * one.key_w + u.keys.token(key)] = sum;
}

// A launch that leaves sums of `received`, and what adds those of chunks.
template <class T, class F>
void with_received(Stream& stream, Forward<T> p, int64_t images, const F& kernel) {
  Tensor partial;
  if (p.received && p.cut.chunks > 1) {
    partial = empty({int64_t{blocks_of(p.cut, images)}, kTile}, Dtype::f32, stream.device);
    p.partial = partial.data<float>();
  }
  kernel(p);
  if (!partial) return;
  Cut one = p.cut;
  one.chunks = 1, one.chunk_queries = one.max_queries();
  cuda::launch(stream, {"attention.add_received", blocks_of(one, images), kTile},
               add_received_kernel, one, p.cut.chunks, p.partial, p.received);
}

template <class T, int D>
void forward_of(Stream& stream, Forward<T> p, int64_t images) {
  constexpr int64_t kBlocks = 2048;  // enough to fill a GPU with several rounds of blocks
  constexpr size_t row = padded<T>(D) * sizeof(T);
  constexpr size_t own = kWarps * (2 * kRows * row + kScratch<T> * sizeof(T));
  const Cut whole = p.cut;
  p.key_rows = int(cuda::ceil_div(whole.max_keys(), 16) * 16);
  // Beyond, too few blocks would share a multiprocessor.
  if (2 * size_t(p.key_rows) * row + own > (96 << 10)) p.key_rows = kTile;
  cut_queries(p.cut, images, kBlocks);
  const size_t shared = 2 * size_t(p.key_rows) * row + own;
  with_received(stream, p, images, [&](const Forward<T>& f) {
    cuda::launch(stream, {"attention.fwd", blocks_of(f.cut, images), kThreads, shared},
                 forward_kernel<T, D>, f);
  });
  if (!p.received || whole.max_keys() <= kTile) return;
  profile::slow_path(
      "attention.fwd",
      "queries and keys are read again for the attention that more than 64 keys of a "
      "window receive",
      (map_elements(whole, images) +
       double(images) * whole.heads * whole.d * whole.key_h * whole.key_w) *
          sizeof(T),
      [&] { return name_of(whole, images); });
  p.cut = whole;
  cut_keys(p.cut, kTile), cut_queries(p.cut, images, kBlocks);
  with_received(stream, p, images, [&](const Forward<T>& f) {
    cuda::launch(stream,
                 {"attention.received", blocks_of(f.cut, images), kThreads, 3 * kTile * row},
                 received_kernel<T, D>, f);
  });
}

void forward(Stream& stream, In q, In kv, const AttentionGeometry& g, Out out, Out lse,
             Out received) {
  dispatch<float, bf16>(q.dtype(), "attention", [&]<class T>() {
    const Cut cut = cut_of(g, q.dtype(), {q.raw(), kv.raw(), out.raw()});
    Tensor logs = lse;
    if (!logs && received && cut.max_keys() > kTile)
      logs = empty({g.batch, g.heads, g.h * g.w}, Dtype::f32, q.device());
    const Forward<T> p{cut,
                       q.data<T>(),
                       kv.data<T>(),
                       out.data<T>(),
                       logs ? logs.data<float>() : nullptr,
                       received ? received.data<float>() : nullptr,
                       nullptr,
                       0};
    with_width(g.head_dim, [&]<int D>() { forward_of<T, D>(stream, p, g.batch); });
  });
}

__global__ void spread_kernel(const float* received, int heads, int h, int w, int key_h, int key_w,
                              int scale, float factor, bool first, int64_t tokens,
                              float* significance) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= tokens) return;
  const int x = int(i % w), y = int(i / w % h);
  const int64_t keys = int64_t{key_h} * key_w;
  const float* const from =
      received + i / (int64_t{h} * w) * heads * keys + int64_t{y / scale} * key_w + x / scale;
  float sum = 0;
  for (int head = 0; head < heads; ++head) sum += from[head * keys];
  significance[i] = first ? factor * sum : significance[i] + factor * sum;
}

void spread(Stream& stream, In received, const AttentionGeometry& g, double factor, bool first,
            Out significance) {
  constexpr int kSpreadThreads = 256;
  const int64_t tokens = significance.numel();
  cuda::launch(
      stream,
      {"attention.spread", unsigned(cuda::ceil_div(tokens, kSpreadThreads)), kSpreadThreads},
      spread_kernel, received.data<float>(), g.heads, int(g.h), int(g.w), int(g.key_h),
      int(g.key_w), g.scale, float(factor / g.heads), first, tokens, significance.data<float>());
}

const Register r_forward{kernels::attention_fwd, DeviceType::cuda, forward};
const Register r_spread{kernels::spread_significance, DeviceType::cuda, spread};

}  // namespace
}  // namespace sg
