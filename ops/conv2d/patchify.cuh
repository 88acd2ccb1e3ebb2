// Products of a map's windows with matrices, in bf16 on matrix units, for patchify_cuda.cu: the
// windows do not overlap, so the map is read, or written, once where it lies.
//
// A block of four warps takes tile after tile of the result; the warps share it as 2 x 2. Terms of
// the sum come to shared memory 64 at a time, in a ring that runs ahead over the ends of tiles, so
// that a block waits for memory only at its beginning. Two blocks share a multiprocessor.
#pragma once
#include "ops/conv2d/tiles.cuh"

namespace sg::conv2d_cuda {

constexpr int kChunk = 64;                            // terms of a step
constexpr int kMergeThreads = 128, kMergeBlocks = 2;  // of a block; a multiprocessor
constexpr int kRingBytes = 112 << 10;                 // at most: two blocks have 227 KiB

// Quotients of whole numbers below 2^31 by one that is known before the kernel starts.
class Divisor {
 public:
  explicit Divisor(int by) {
    while ((int64_t{1} << shift_) < by) ++shift_;
    factor_ = unsigned(((uint64_t{1} << (31 + shift_)) + unsigned(by) - 1) / unsigned(by));
  }
  // factor / 2^(31 + shift) is above 1 / by, by less than 2^-31 / by.
  __device__ __forceinline__ int quotient(int n) const {
    return int((uint64_t{2 * unsigned(n)} * factor_ >> 32) >> shift_);
  }

 private:
  int shift_ = 0;
  unsigned factor_;
};

// Elements of an operand or result, and of a window's segment: pieces of 16 bytes are counted in
// int, and in 16 bits.
constexpr int64_t kMaxElements = int64_t{1} << 33, kMaxSegment = int64_t{1} << 19;

// Rows of operands and results are counted in pieces of eight elements, 16 bytes. A layout says
// where those of its rows lie: row() is what at() needs of a row, and is handed on from the lane
// that found it out; at() is a piece's place in memory, -1 where there is none.
struct Matrix {
  int rows, width;

  struct Row {
    int first;  // -1: none
    __device__ Row of_lane(int lane) const { return {cuda::shuffle(first, lane)}; }
  };
  __device__ Row row(int r) const { return {r < rows ? r * width : -1}; }
  __device__ int at(const Row& row, int piece) const {
    return row.first >= 0 && piece < width ? row.first + piece : -1;
  }
};

// The windows of a map as the rows of a matrix. A window is `side` segments, each of which lies in
// one line of the map; where it reaches beyond the map there is nothing.
struct MapWindows {
  int side, height, width, count;  // a window's lines; the map's, and their width; windows in all
  int down, across, segment;       // windows an image; the width of a segment
  Divisor by_down, by_across, by_segment;

  struct Row {
    int first;           // the window's first piece
    unsigned map_holds;  // how many lines of the window << 16 | pieces of a line
    __device__ Row of_lane(int lane) const {
      return {cuda::shuffle(first, lane), cuda::shuffle(map_holds, lane)};
    }
  };
  __device__ Row row(int window) const {
    const int line = by_across.quotient(window), image = by_down.quotient(line);
    const int y = (line - image * down) * side, x = (window - line * across) * segment;
    const int lines = window < count ? std::min(side, height - y) : 0;
    return {(image * height + y) * width + x,
            unsigned(lines) << 16 | unsigned(std::min(segment, width - x))};
  }
  __device__ int at(const Row& row, int piece) const {
    const int line = by_segment.quotient(piece), rest = piece - line * segment;
    const bool inside = line < int(row.map_holds >> 16) && rest < int(row.map_holds & 0xffff);
    return inside ? row.first + line * width + rest : -1;
  }
};

template <class Layout>
struct Operand {
  const bf16* data;
  Layout layout;
};

// Where sums go; T: bf16, or float for parts of sums.
template <class T, class Layout>
struct Result {
  T* data;
  Layout layout;
  int64_t part;      // pieces of a part of the sums, of a matrix
  const bf16* bias;  // of a matrix's columns, or null
  bool accumulate;   // to a map

  // Four columns, half `half` of piece `piece` of a row.
  __device__ __forceinline__ void put(int of_part, const typename Layout::Row& row, int piece,
                                      int half, cuda::Vec<float, 4> v) const {
    const int at = layout.at(row, piece);
    if (at < 0) return;
    T* to = data + int64_t{at} * 8 + half * 4;
    if constexpr (std::is_same_v<Layout, Matrix>) {
      to += of_part * part * 8;
      if (bias) add_from(v, bias + piece * 8 + half * 4);
    } else {
      if (accumulate) add_from(v, to);
    }
    cuda::store_float<4>(to, v);
  }
};

// What blocks take one after the other: tiles of the result, `across` in a line; where sums are
// split, all tiles' first parts, then all tiles' second parts.
struct Work {
  int tiles, across, parts, steps;  // steps of a part; the last may have fewer terms left
  __device__ int units() const { return tiles * parts; }
};
struct Unit {
  int row, column, part;  // row and column of the tile
  __device__ Unit(const Work& work, int unit) : part(unit / work.tiles) {
    const int tile = unit - part * work.tiles;
    row = tile / work.across, column = tile - row * work.across;
  }
};

// An operand's tile in shared memory is `Width` rows of 64 terms or, where the terms are its rows
// (`TermRows`), 64 rows of `Width`. Starts its copy, from row or column `first` on; zeros stand for
// what there is not. A warp has a quarter of the rows, and a lane finds out about one of them.
template <int Width, bool TermRows, class Layout>
__device__ __forceinline__ void load_tile(const Operand<Layout>& from, int first, int term,
                                          bf16* to) {
  constexpr int kRows = TermRows ? kChunk : Width, kParts = (TermRows ? Width : kChunk) / 8;
  constexpr int kOwn = kRows / (kMergeThreads / cuda::kWarp);
  static_assert(kOwn <= cuda::kWarp && kOwn * kParts % cuda::kWarp == 0);
  const unsigned lane = threadIdx.x % cuda::kWarp;
  const int own = int(threadIdx.x / cuda::kWarp) * kOwn;
  const auto known = from.layout.row((TermRows ? term : first) + own + int(lane));
  const int column = (TermRows ? first : term) / 8;
#pragma unroll
  for (unsigned i = 0; i < kOwn * kParts; i += cuda::kWarp) {
    const int row = int((i + lane) / kParts), part = int((i + lane) % kParts);
    const int at = from.layout.at(known.of_lane(row), column + part);
    cuda::copy_async_16(to + in_shared<kParts>(own + row, part),
                        from.data + int64_t{std::max(at, 0)} * 8, at < 0 ? 0 : 16);
  }
}

// Rows (of the left operand) or columns (of the right) [at, at + 16) of terms [16 k, 16 k + 16), as
// mma_16x8x16 takes them: of the right operand, two times eight columns.
template <int Width, bool TermRows, bool Left>
__device__ __forceinline__ void load_fragment(uint32_t (&r)[4], const bf16* tile, int at, int k) {
  const int lane = int(threadIdx.x) % cuda::kWarp;
  // The four matrices are two rows of two; the order in which they are wanted, and transposed.
  const bool by_rows = Left == TermRows;
  const int row = by_rows ? lane / 16 * 8 + lane % 8 : lane % 16;
  const int part = by_rows ? lane / 8 % 2 : lane / 16;
  if constexpr (TermRows)
    cuda::load_matrices<true>(r, tile + in_shared<Width / 8>(16 * k + row, at / 8 + part));
  else
    cuda::load_matrices<false>(r, tile + in_shared<kChunk / 8>(at + row, 2 * k + part));
}

template <int M, int N>
constexpr int kMergeBuffer = (M + N) * kChunk;  // elements
template <int M, int N>
constexpr int kMergeBuffers = kRingBytes / int(sizeof(bf16)) / kMergeBuffer<M, N>;

// result (in tiles of M x N) = left (rows, terms) right (terms, columns).
template <int M, int N, bool LeftTermRows, bool RightTermRows, class Left, class Right, class Out>
__global__ void __launch_bounds__(kMergeThreads, kMergeBlocks)
    merge_kernel(Work work, Operand<Left> left, Operand<Right> right, Out out) {
  constexpr int kM = M / 2, kN = N / 2;  // of a warp
  constexpr int kBuffers = kMergeBuffers<M, N>;
  bf16* const shared = cuda::dynamic_shared<bf16>();
  const int units = work.units();
  int next = int(blockIdx.x), next_step = 0;  // to load
  Unit ahead(work, next);
  const auto load = [&](int buffer) {
    if (next < units) {
      const int term = (ahead.part * work.steps + next_step) * kChunk;
      bf16* const to = shared + buffer * kMergeBuffer<M, N>;
      load_tile<M, LeftTermRows>(left, ahead.row * M, term, to);
      load_tile<N, RightTermRows>(right, ahead.column * N, term, to + M * kChunk);
    }
    cuda::commit_copies();
    if (++next_step < work.steps) return;
    next_step = 0, next += int(gridDim.x);
    ahead = Unit(work, next);
  };
#pragma unroll
  for (int i = 0; i < kBuffers - 1; ++i) load(i);

  const int lane = int(threadIdx.x) % cuda::kWarp, warp = int(threadIdx.x) / cuda::kWarp;
  const int own_row = warp / 2 * kM, own_column = warp % 2 * kN;
  int buffer = 0;
  for (int i = int(blockIdx.x); i < units; i += int(gridDim.x)) {
    float sum[kM / 16][kN / 8][4] = {};
    for (int step = 0; step < work.steps; ++step) {
      cuda::wait_copies<kBuffers - 2>();
      __syncthreads();
      load(buffer == 0 ? kBuffers - 1 : buffer - 1);
      const bf16* const tile = shared + buffer * kMergeBuffer<M, N>;
#pragma unroll
      for (int k = 0; k < kChunk / 16; ++k) {
        uint32_t rows[kM / 16][4];
#pragma unroll
        for (int m = 0; m < kM / 16; ++m)
          load_fragment<M, LeftTermRows, true>(rows[m], tile, own_row + 16 * m, k);
#pragma unroll
        for (int n = 0; n < kN / 16; ++n) {
          uint32_t columns[4];
          load_fragment<N, RightTermRows, false>(columns, tile + M * kChunk, own_column + 16 * n,
                                                 k);
#pragma unroll
          for (int m = 0; m < kM / 16; ++m) {
            cuda::mma_16x8x16(sum[m][2 * n], rows[m], {columns[0], columns[1]});
            cuda::mma_16x8x16(sum[m][2 * n + 1], rows[m], {columns[2], columns[3]});
          }
        }
      }
      buffer = buffer + 1 == kBuffers ? 0 : buffer + 1;
    }
    const Unit unit(work, i);
    const int piece = (unit.column * N + own_column + first_of_four()) / 8;
#pragma unroll
    for (int m = 0; m < kM / 16; ++m) {
      const auto known = out.layout.row(unit.row * M + own_row + 16 * m + lane % 16);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const auto row = known.of_lane(8 * half + lane / 4);
#pragma unroll
        for (int n = 0; n < kN / 8; n += 2)
          out.put(unit.part, row, piece + n, lane % 4 / 2,
                  four_columns(sum[m][n], sum[m][n + 1], half));
      }
    }
  }
}

}  // namespace sg::conv2d_cuda
