// A warp takes one chunk, or a share of a long one: `group` lanes hold a row of channels (16 bytes
// each, up to 32 lanes; wider rows are cut into slices), so 32 / group rows are under way at once,
// times kUnroll. Eight warps a block; all of a block belong to one region.
// Forward: x, order and y once. The rows of a warp are added by shuffles, the shares of a chunk in
// shared memory.
// Backward: dy, x and order are read and dx is written once (read too where it accumulates). The
// products <dy, x> of every rank, and the sums of dy, go through memory (4 bytes a rank and slice)
// and are added over chunks and images by a second kernel.
#include "core/cuda/kernel.cuh"
#include "ops/aggregate/aggregate.h"
#include "ops/reduce_cuda.cuh"

namespace sg {
namespace {

using cuda::kWarp, cuda::Vec;

constexpr int kWarps = 8, kUnroll = 4;
constexpr int kSteps = 16;  // rows that a lane takes of a chunk before it is shared among warps

struct Part {  // a region
  int tokens, r;
  int split;  // warps a chunk
  int64_t first_rank, first_chunk, first_block;
  const float *w, *b;
};

struct Plan {
  Part parts[kMaxRegions];
  int count;
  int group;   // lanes a row
  int slices;  // of 32 vectors of channels
  int64_t batch, n, c, chunks, virtual_tokens;
  int64_t blocks;
};

Plan plan_of(const std::vector<Region>& regions, const std::vector<Tensor>& w,
             const std::vector<Tensor>& b, int64_t virtual_tokens, In order, int64_t c, int width) {
  Plan p{};
  p.batch = order.dim(0), p.n = order.dim(1), p.c = c, p.virtual_tokens = virtual_tokens;
  const int64_t vectors = c / width;
  for (p.group = 1; p.group < kWarp && p.group < vectors;) p.group *= 2;
  p.slices = int(cuda::ceil_div(vectors, kWarp));
  int64_t rank = 0;
  for (size_t i = 0; i < regions.size(); ++i) {
    const auto& [tokens, r] = regions[i];
    int split = 1;
    while (split < kWarps && r > split * (kWarp / p.group) * kSteps) split *= 2;
    p.parts[p.count++] = {int(tokens),
                          int(r),
                          split,
                          rank,
                          p.chunks,
                          p.blocks,
                          w[i].data<float>(),
                          b.empty() ? nullptr : b[i].data<float>()};
    p.blocks += cuda::ceil_div(p.batch * tokens * split, kWarps);
    p.chunks += tokens, rank += tokens * r;
  }
  return p;
}

// The work of one lane.
struct Work {
  Part part;
  int share;             // of its chunk
  int begin, end, skip;  // ranks [begin, end) of the chunk, of which those below skip are virtual
  int row, rows;         // this lane takes ranks begin + row, begin + row + rows, ...
  bool active;           // there is a chunk, and the lane has channels of it
  int64_t chunk;         // of the region in all images
  int64_t ranks;         // place in `order` of rank 0 of the chunk
  int64_t pixels;        // place in x of the lane's channels in token 0
  int64_t y;             // place in y
  __device__ explicit Work(const Plan& p, int width) {
    int i = 0;
    while (i + 1 < p.count && int64_t{blockIdx.x} >= p.parts[i + 1].first_block) ++i;
    part = p.parts[i];
    const int lane = int(threadIdx.x) % kWarp, warp = int(threadIdx.x) / kWarp;
    const int64_t slot = (int64_t{blockIdx.x} - part.first_block) * kWarps + warp;
    chunk = slot / part.split, share = int(slot % part.split);
    const bool some = chunk < p.batch * part.tokens;
    begin = some ? int(int64_t{part.r} * share / part.split) : 0;
    end = some ? int(int64_t{part.r} * (share + 1) / part.split) : 0;
    row = lane / p.group, rows = kWarp / p.group;
    const int channel = (int(blockIdx.y) * kWarp + lane % p.group) * width;
    active = some && channel < p.c;
    const int64_t image = chunk / part.tokens, j = chunk % part.tokens;
    const int64_t first = part.first_rank + j * part.r - p.virtual_tokens;
    skip = first < 0 ? int(-first) : 0;
    ranks = image * p.n + first;
    pixels = image * p.n * p.c + channel;
    y = (image * p.chunks + part.first_chunk + j) * p.c + channel;
  }
  // Does this lane have a token at rank k?
  __device__ bool has(int k) const { return active && k >= skip && k < end; }
};

template <class T, int N>
__global__ void __launch_bounds__(kWarps* kWarp, 2)
    forward_kernel(const T* x, const int32_t* order, Plan p, T* y) {
  __shared__ Vec<float, N> shares[kWarps][kWarp];
  const Work work(p, N);
  x += work.pixels, order += work.ranks;
  Vec<float, N> sum{};
  for (int k0 = work.begin; k0 < work.end; k0 += kUnroll * work.rows) {
    Vec<T, N> v[kUnroll];
    float w[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int k = k0 + u * work.rows + work.row;
      w[u] = 0, v[u] = {};
      if (!work.has(k)) continue;
      w[u] = work.part.w[k];
      v[u] = cuda::load<N>(x + int64_t{order[k]} * p.c);
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u)
#pragma unroll
      for (int i = 0; i < N; ++i) sum[i] = fmaf(w[u], cuda::to_float(v[u][i]), sum[i]);
  }
  for (int offset = p.group; offset < kWarp; offset *= 2)
#pragma unroll
    for (int i = 0; i < N; ++i) sum[i] += cuda::shuffle_xor(sum[i], offset);
  if (work.part.split > 1) {  // all warps of the block agree
    const int lane = int(threadIdx.x) % kWarp, warp = int(threadIdx.x) / kWarp;
    shares[warp][lane] = sum;
    __syncthreads();
    if (work.share == 0)
      for (int s = 1; s < work.part.split; ++s)
#pragma unroll
        for (int i = 0; i < N; ++i) sum[i] += shares[warp + s][lane][i];
  }
  if (!work.active || work.share != 0 || work.row != 0) return;
  const float b = *work.part.b;
#pragma unroll
  for (int i = 0; i < N; ++i) sum[i] += b;
  cuda::store_float<N>(y + work.y, sum);
}

// products: for each region (slice, image, chunk, rank); sums: (slice, image, chunk). Null where
// not wanted.
template <class T, int N>
__global__ void __launch_bounds__(kWarps* kWarp, 2)
    backward_kernel(const T* dy, const T* x, const int32_t* order, Plan p, cuda::GradPtr<T> dx,
                    float* products, float* sums) {
  const Work work(p, N);
  const bool first = work.active && threadIdx.x % unsigned(p.group) == 0;  // of its row
  const int64_t copies = p.slices * p.batch;
  const int64_t chunk = int64_t{blockIdx.y} * p.batch * work.part.tokens + work.chunk;
  Vec<float, N> g{};
  if (work.active) g = cuda::load_float<N>(dy + work.y);
  if (sums) {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < N; ++i) sum += g[i];
    for (int offset = p.group / 2; offset > 0; offset /= 2) sum += cuda::shuffle_xor(sum, offset);
    if (first && work.row == 0 && work.share == 0)
      sums[copies * work.part.first_chunk + chunk] = sum;
  }
  if (products) products += copies * work.part.first_rank + chunk * work.part.r;
  x += work.pixels, order += work.ranks;
  if (dx) dx.data += work.pixels;
  for (int k0 = work.begin; k0 < work.end; k0 += kUnroll * work.rows) {
    Vec<T, N> v[kUnroll], before[kUnroll];
    int32_t token[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int k = k0 + u * work.rows + work.row;
      token[u] = -1, v[u] = {}, before[u] = {};
      if (!work.has(k)) continue;
      token[u] = order[k];
      if (products) v[u] = cuda::load<N>(x + int64_t{token[u]} * p.c);
      if (dx && dx.accumulate) before[u] = cuda::load<N>(dx.data + int64_t{token[u]} * p.c);
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int k = k0 + u * work.rows + work.row;
      if (dx && token[u] >= 0) {
        const float w = work.part.w[k];
        Vec<float, N> d;
#pragma unroll
        for (int i = 0; i < N; ++i) d[i] = fmaf(w, g[i], cuda::to_float(before[u][i]));
        cuda::store_float<N>(dx.data + int64_t{token[u]} * p.c, d);
      }
      if (!products) continue;
      float product = 0;
#pragma unroll
      for (int i = 0; i < N; ++i) product = fmaf(g[i], cuda::to_float(v[u][i]), product);
      for (int offset = p.group / 2; offset > 0; offset /= 2)
        product += cuda::shuffle_xor(product, offset);
      if (first && k < work.end) products[k] = product;
    }
  }
}

// out[k] (+)= the sum of column k of (rows, columns).
struct Columns {
  const float* data;
  int64_t rows;
  int columns;
  int width;  // columns a block takes, a power of two
  unsigned first_block;
  cuda::GradPtr<float> out;
};
struct AllColumns {
  Columns of[2 * kMaxRegions];
  int count;
};

constexpr int kSumThreads = 512;

__global__ void __launch_bounds__(kSumThreads) sum_columns(AllColumns all) {
  __shared__ float scratch[kSumThreads];
  int i = 0;
  while (i + 1 < all.count && blockIdx.x >= all.of[i + 1].first_block) ++i;
  const Columns c = all.of[i];
  const int t = int(threadIdx.x);
  const int column = int(blockIdx.x - c.first_block) * c.width + t % c.width;
  float sum = 0;
  if (column < c.columns) {
#pragma unroll 4
    for (int64_t row = t / c.width; row < c.rows; row += kSumThreads / c.width)
      sum += c.data[row * c.columns + column];
  }
  scratch[t] = sum;
  for (int half = kSumThreads / 2; half >= c.width; half /= 2) {
    __syncthreads();
    if (t < half) scratch[t] += scratch[t + half];
  }
  if (t < c.width && column < c.columns) c.out.put(column, scratch[t]);
}

template <class T, class F>
void with_plan(const std::vector<Region>& regions, const std::vector<Tensor>& w,
               const std::vector<Tensor>& b, int64_t virtual_tokens, In order, int64_t c,
               const F& f) {
  cuda::with_vectors<T>(c, [&](auto width) {
    constexpr int N = decltype(width)::value;
    const Plan p = plan_of(regions, w, b, virtual_tokens, order, c, N);
    f(p, dim3(unsigned(p.blocks), unsigned(p.slices)), width);
  });
}

void forward(Stream& stream, In x, In order, const std::vector<Region>& regions,
             const std::vector<Tensor>& w, const std::vector<Tensor>& b, int64_t virtual_tokens,
             Out y) {
  dispatch<float, bf16>(x.dtype(), "aggregate on cuda", [&]<class T>() {
    with_plan<T>(regions, w, b, virtual_tokens, order, x.dim(3),
                 [&](const Plan& p, dim3 grid, auto width) {
                   cuda::launch(stream, {"aggregate.fwd", grid, kWarps * kWarp},
                                forward_kernel<T, decltype(width)::value>, x.data<T>(),
                                order.data<int32_t>(), p, y.data<T>());
                 });
  });
}

void backward(Stream& stream, In dy, In x, In order, const std::vector<Region>& regions,
              const std::vector<Tensor>& w, int64_t virtual_tokens, Grad dx,
              const std::vector<Grad>& dw, const std::vector<Grad>& db) {
  const auto wanted = [](const std::vector<Grad>& all) {
    return std::any_of(all.begin(), all.end(), [](const Grad& g) { return bool(g); });
  };
  dispatch<float, bf16>(x.dtype(), "aggregate on cuda", [&]<class T>() {
    with_plan<T>(regions, w, {}, virtual_tokens, order, x.dim(3),
                 [&](const Plan& p, dim3 grid, auto width) {
                   const int64_t copies = p.slices * p.batch;
                   Tensor products, sums;
                   if (wanted(dw))
                     products = empty({copies, p.n + virtual_tokens}, Dtype::f32, x.device());
                   if (wanted(db)) sums = empty({copies, p.chunks}, Dtype::f32, x.device());
                   cuda::launch(stream, {"aggregate.bwd", grid, kWarps * kWarp},
                                backward_kernel<T, decltype(width)::value>, dy.data<T>(),
                                x.data<T>(), order.data<int32_t>(), p, cuda::grad_ptr<T>(dx),
                                products ? products.data<float>() : nullptr,
                                sums ? sums.data<float>() : nullptr);
                   AllColumns all{};
                   unsigned blocks = 0;
                   const auto add = [&](const Grad& out, const Tensor& from, int64_t first,
                                        int64_t rows, int64_t columns) {
                     if (!out) return;
                     int column_width = 1;
                     while (column_width < 8 && column_width < columns) column_width *= 2;
                     all.of[all.count++] = {from.data<float>() + copies * first,
                                            copies * rows,
                                            int(columns),
                                            column_width,
                                            blocks,
                                            cuda::grad_ptr<float>(out)};
                     blocks += unsigned(cuda::ceil_div(columns, column_width));
                   };
                   for (size_t i = 0; i < regions.size(); ++i) {
                     const Part& part = p.parts[i];
                     add(dw[i], products, part.first_rank, part.tokens, part.r);
                     add(db[i], sums, part.first_chunk, part.tokens, 1);
                   }
                   cuda::launch(stream, {"aggregate.sum", blocks, kSumThreads}, sum_columns, all);
                 });
  });
}

const Register r_fwd{kernels::aggregate_fwd, DeviceType::cuda, forward};
const Register r_bwd{kernels::aggregate_bwd, DeviceType::cuda, backward};

}  // namespace
}  // namespace sg
