// Stable radix sort of (ordered key, index), a byte a pass from the lowest, four passes.
//
// A tile of up to 4096 tokens is sorted by a byte in shared memory: a warp holds 128 tokens in
// registers, four a lane, finds with ballots which lanes share a byte, and counts in a row of
// counters of its own; prefix sums over bytes, then warps, give every token its place.
// - An image of one tile (H * W <= 4096): one block does all passes and reads and writes device
//   memory once.
// - Larger: three launches a pass for the whole batch. Tiles are counted; prefix sums over (byte,
//   tile) give every tile its places; tiles are sorted and written run by run. 32 bytes a token
//   and pass.
#include <bit>

#include "core/cuda/kernel.cuh"
#include "core/profile.h"
#include "ops/argsort/argsort.h"

namespace sg {
namespace {

using cuda::kWarp;

constexpr int kItems = 4, kTile = 4096, kThreads = kTile / kItems, kDigits = 256, kPasses = 4;

struct alignas(8) Token {
  uint32_t key;
  int32_t index;
};

// The tokens of a thread of a tile: item j is token 128 warp + 32 j + lane.
struct Items {
  Token token[kItems];
};

// An unsigned number in the order of the values: equal for both zeros, largest for any NaN.
__device__ __forceinline__ uint32_t key_of(float v) {
  if (v != v) return ~0u;
  const uint32_t bits = std::bit_cast<uint32_t>(v == 0 ? 0.0f : v), sign = 1u << 31;
  return bits & sign ? ~bits : bits | sign;
}

// Shared memory of a block, laid out by its number of threads.
struct Tile {
  uint32_t *start, *counts;  // of each digit: its first place in the tile; (warp, digit)
  Token* tokens;
  __device__ Tile() {
    start = cuda::dynamic_shared<uint32_t>();
    tokens = reinterpret_cast<Token*>(start + kDigits);
    counts = reinterpret_cast<uint32_t*>(tokens + blockDim.x * kItems);
  }
  static size_t bytes(int threads) {
    return sizeof(uint32_t) * size_t(kDigits + threads / kWarp * kDigits) +
           sizeof(Token) * size_t(threads * kItems);
  }
};

__device__ __forceinline__ int place_of(int item) {
  const int lane = int(threadIdx.x) % kWarp, warp = int(threadIdx.x) / kWarp;
  return (warp * kItems + item) * kWarp + lane;
}
__device__ __forceinline__ uint32_t digit(uint32_t key, int shift) { return key >> shift & 255; }

// Counts the digits of each warp. Byte j of the result: how many tokens of the warp with the same
// digit come before item j.
__device__ uint32_t count(const Tile& tile, const Items& items, int shift) {
  const int lane = int(threadIdx.x) % kWarp, warp = int(threadIdx.x) / kWarp;
  uint32_t* const counts = tile.counts + warp * kDigits;
  for (int d = lane; d < kDigits; d += kWarp) counts[d] = 0;
  __syncwarp();
  uint32_t ranks = 0;
#pragma unroll
  for (int j = 0; j < kItems; ++j) {
    const uint32_t own = digit(items.token[j].key, shift);
    uint32_t same = ~0u;  // lanes with the same digit
#pragma unroll
    for (int bit = 0; bit < 8; ++bit) {
      const bool set = own >> bit & 1;
      const uint32_t lanes = cuda::ballot(set);
      same &= set ? lanes : ~lanes;
    }
    const uint32_t before = same & ((1u << lane) - 1), counted = counts[own];
    ranks |= (counted + uint32_t(std::popcount(before))) << 8 * j;
    __syncwarp();
    if (before == 0) counts[own] = counted + uint32_t(std::popcount(same));
    __syncwarp();
  }
  __syncthreads();
  return ranks;
}

// Makes the warps' counts of each digit those of earlier warps, and leaves its total in `start`.
__device__ void sum_warps(const Tile& tile) {
  const int warps = int(blockDim.x) / kWarp;
  for (int d = int(threadIdx.x); d < kDigits; d += int(blockDim.x)) {
    uint32_t sum = 0;
    for (int w = 0; w < warps; ++w) {
      const uint32_t n = tile.counts[w * kDigits + d];
      tile.counts[w * kDigits + d] = sum;
      sum += n;
    }
    tile.start[d] = sum;
  }
  __syncthreads();
}

// The sum over the lanes before this one.
__device__ __forceinline__ uint32_t sum_before(uint32_t v) {
  const int lane = int(threadIdx.x) % kWarp;
  uint32_t sum = v;
#pragma unroll
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const uint32_t other = cuda::shuffle(sum, lane - offset);
    if (lane >= offset) sum += other;
  }
  return sum - v;
}

// Leaves the tile in shared memory in order of the digit.
__device__ void sort_by(const Tile& tile, const Items& items, int shift) {
  const uint32_t ranks = count(tile, items, shift);
  sum_warps(tile);
  if (threadIdx.x < kWarp) {
    uint32_t* const own = tile.start + threadIdx.x * (kDigits / kWarp);
    uint32_t sum = 0;
    for (int i = 0; i < kDigits / kWarp; ++i) sum += own[i];
    sum = sum_before(sum);
    for (int i = 0; i < kDigits / kWarp; ++i) {
      const uint32_t n = own[i];
      own[i] = sum;
      sum += n;
    }
  }
  __syncthreads();
  const uint32_t* const earlier = tile.counts + threadIdx.x / kWarp * kDigits;
#pragma unroll
  for (int j = 0; j < kItems; ++j) {
    const uint32_t d = digit(items.token[j].key, shift),
                   to = tile.start[d] + earlier[d] + digit(ranks, 8 * j);
    tile.tokens[to] = items.token[j];
  }
  __syncthreads();
}

// One block an image. Places past the image hold the largest key and stay behind it.
__global__ void __launch_bounds__(kThreads, 2)
    sort_image(const float* values, int n, int32_t* order) {
  const Tile tile;
  values += int64_t{blockIdx.x} * n, order += int64_t{blockIdx.x} * n;
  Items items;
#pragma unroll
  for (int j = 0; j < kItems; ++j) {
    const int i = place_of(j);
    items.token[j] = {i < n ? key_of(values[i]) : ~0u, i};
  }
#pragma unroll 1
  for (int pass = 0; pass < kPasses; ++pass) {
    sort_by(tile, items, 8 * pass);
#pragma unroll
    for (int j = 0; j < kItems; ++j) items.token[j] = tile.tokens[place_of(j)];
  }
#pragma unroll
  for (int j = 0; j < kItems; ++j)
    if (place_of(j) < n) order[place_of(j)] = items.token[j].index;
}

// What a pass reads and writes, for all images one after the other.
struct Pass {
  const float* values;   // the first pass
  const uint32_t* key;   // the others
  const int32_t* index;  //
  uint32_t* key_out;     // not the last
  int32_t* index_out;
  uint32_t* places;  // (image, digit, tile): counts, then first places
  int64_t n;
  int tiles, shift;
};

__device__ Items load_tile(const Pass& p) {
  const int64_t image = int64_t{blockIdx.x} / p.tiles * p.n;
  const int64_t first = int64_t{blockIdx.x} % p.tiles * kTile;
  Items items;
#pragma unroll
  for (int j = 0; j < kItems; ++j) {
    const int64_t i = first + place_of(j);
    items.token[j].key = ~0u, items.token[j].index = int32_t(i);
    if (i >= p.n) continue;
    items.token[j].key = p.values ? key_of(p.values[image + i]) : p.key[image + i];
    if (!p.values) items.token[j].index = p.index[image + i];
  }
  return items;
}

// The place in `places` of digit 0 of this block's tile.
__device__ __forceinline__ int64_t column_of(const Pass& p) {
  return int64_t{blockIdx.x} / p.tiles * kDigits * p.tiles + blockIdx.x % unsigned(p.tiles);
}

// One block a tile.
__global__ void __launch_bounds__(kThreads) count_tile(Pass p) {
  const Tile tile;
  count(tile, load_tile(p), p.shift);
  sum_warps(tile);
  if (threadIdx.x < kDigits)
    p.places[column_of(p) + int64_t{threadIdx.x} * p.tiles] = tile.start[threadIdx.x];
}

// One block an image, one thread a digit.
__global__ void __launch_bounds__(kDigits) place_tiles(uint32_t* places, int tiles) {
  __shared__ uint32_t totals[kDigits / kWarp];
  uint32_t* const own = places + (int64_t{blockIdx.x} * kDigits + threadIdx.x) * tiles;
  uint32_t total = 0;
  for (int t = 0; t < tiles; ++t) total += own[t];
  uint32_t sum = sum_before(total);
  const unsigned warp = threadIdx.x / kWarp;
  if (threadIdx.x % kWarp == kWarp - 1) totals[warp] = sum + total;
  __syncthreads();
  for (unsigned w = 0; w < warp; ++w) sum += totals[w];
  for (int t = 0; t < tiles; ++t) {
    const uint32_t n = own[t];
    own[t] = sum;
    sum += n;
  }
}

// One block a tile.
__global__ void __launch_bounds__(kThreads, 1) sort_tile(Pass p) {
  const Tile tile;
  sort_by(tile, load_tile(p), p.shift);
  const int64_t image = int64_t{blockIdx.x} / p.tiles * p.n, column = column_of(p);
#pragma unroll
  for (int j = 0; j < kItems; ++j) {
    const int i = place_of(j);
    const auto [key, index] = tile.tokens[i];
    if (index >= p.n) continue;
    const uint32_t d = digit(key, p.shift);
    const int64_t to =
        image + p.places[column + int64_t{d} * p.tiles] + (uint32_t(i) - tile.start[d]);
    if (p.key_out) p.key_out[to] = key;
    p.index_out[to] = index;
  }
}

void sort_large(Stream& stream, In significance, Out order) {
  const int64_t images = order.dim(0), n = order.dim(1), tiles = cuda::ceil_div(n, kTile);
  const Device device = order.device();
  // 32 bytes a token and pass, of which 8 are counted as usual.
  profile::slow_path("argsort", "several passes over memory for maps of more than 4096 tokens",
                     double(32 * kPasses - 8) * double(images * n),
                     [&] { return order.shape().str(); });
  Tensor keys = empty({2, images, n}, Dtype::i32, device);
  Tensor indices = empty({images, n}, Dtype::i32, device);
  Tensor places = empty({images, kDigits, tiles}, Dtype::i32, device);
  const auto unsigned_of = [](Tensor t) { return static_cast<uint32_t*>(t.raw()); };
  uint32_t* const key[2] = {unsigned_of(keys.slice(0, 1)), unsigned_of(keys.slice(1, 2))};
  // After the last, the fourth pass, indices lie in `order`.
  int32_t* const index[2] = {indices.data<int32_t>(), order.data<int32_t>()};
  const unsigned blocks = unsigned(images * tiles);
  for (int pass = 0; pass < kPasses; ++pass) {
    const int to = pass % 2, from = 1 - to;
    const Pass p{pass == 0 ? significance.data<float>() : nullptr,
                 key[from],
                 index[from],
                 pass + 1 < kPasses ? key[to] : nullptr,
                 index[to],
                 unsigned_of(places),
                 n,
                 int(tiles),
                 8 * pass};
    const size_t shared = Tile::bytes(kThreads);
    cuda::launch(stream, {"argsort.count", blocks, kThreads, shared}, count_tile, p);
    cuda::launch(stream, {"argsort.place", unsigned(images), kDigits}, place_tiles, p.places,
                 p.tiles);
    cuda::launch(stream, {"argsort.sort", blocks, kThreads, shared}, sort_tile, p);
  }
}

void argsort(Stream& stream, In significance, Out order) {
  const int64_t images = order.dim(0), n = order.dim(1);
  dispatch<float>(significance.dtype(), "argsort on cuda", [&]<class T>() {
    if (order.numel() == 0) return;
    if (n > kTile) return sort_large(stream, significance, order);
    const int threads = int(cuda::ceil_div(n, kItems * kWarp)) * kWarp;
    cuda::launch(stream, {"argsort", unsigned(images), unsigned(threads), Tile::bytes(threads)},
                 sort_image, significance.data<T>(), int(n), order.data<int32_t>());
  });
}
const Register r{kernels::argsort, DeviceType::cuda, argsort};

}  // namespace
}  // namespace sg
