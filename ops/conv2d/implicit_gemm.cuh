// 3x3 convolutions from 64 to 64, or from 96 to 96 channels in bf16 on matrix units, for
// conv2d_cuda.cu. The map itself is the matrix: no windows are copied.
//
// A block keeps the weights in shared memory (64 channels: all, 72 KiB; 96: those of a third of the
// outputs, 54 KiB) and takes tile after tile of 16 columns: the input with its halo goes to shared
// memory, so that it is read 1.4 times (10 x 18 pixels for 8 x 16; stride 2: 9 x 33 for 8 x 32, 1.2
// times), by each third again, and the output is written once. Two blocks share a multiprocessor of
// 228 KiB: one loads while the other multiplies.
#pragma once
#include "ops/conv2d/conv2d.h"
#include "ops/conv2d/tiles.cuh"

namespace sg::conv2d_cuda {

constexpr int kTileColumns = 16, kTapThreads = 128;

// A sum over taps: out(row O + phase.row, column O + phase.column) of a position (row, column) is
// the sum over the phase's taps of in(row S + tap.row, column S + tap.column) times the tap's
// weights. A convolution of stride S has one phase and O = 1. Its gradient of the input has S = 1
// and O = its stride: pixels of odd and of even rows are reached by different taps.
struct Tap {
  int row, column, weights;
};
struct Phase {
  int row, column, count;
  Tap taps[9];
};
struct TapSum {
  int in_height, in_width, out_height, out_width;
  int64_t batch;
  int rows, columns;              // of positions, an image
  int out_stride, phases;         // O, O^2
  int first_row, first_column;    // the least of all taps
  int extra_rows, extra_columns;  // from the least to the largest
  Phase phase[4];
};

// Where a tile lies, and the halo of its input: `halo_width` pixels a row, those of each remainder
// by S side by side, so that the pixels of a tap follow each other.
template <int C, int S>
struct Tile {
  static constexpr int kRows = S == 1 ? 8 : 4;  // of positions
  static constexpr int kParts = C / 8;
  int64_t image;
  int row, column;  // the first position
  int halo_rows, halo_width;

  static constexpr int halo_rows_of(const TapSum& p) { return (kRows - 1) * S + p.extra_rows + 1; }
  static constexpr int halo_width_of(const TapSum& p) {
    return ((kTileColumns - 1) * S + p.extra_columns + S) / S * S;
  }
  static constexpr int tiles_of(const TapSum& p) {
    return int(p.batch) * ((p.rows + kRows - 1) / kRows) *
           ((p.columns + kTileColumns - 1) / kTileColumns);
  }
  __device__ Tile(const TapSum& p, int tile)
      : halo_rows(halo_rows_of(p)), halo_width(halo_width_of(p)) {
    const int across = (p.columns + kTileColumns - 1) / kTileColumns;
    const int down = (p.rows + kRows - 1) / kRows;
    image = tile / (across * down);
    row = tile / across % down * kRows, column = tile % across * kTileColumns;
  }
  __device__ __forceinline__ int at(int r, int c, int part) const {
    return in_shared<kParts>(r * halo_width + c % S * (halo_width / S) + c / S, part);
  }
  // Starts the copy of the halo; zeros stand for what lies outside of the map.
  __device__ void load(const TapSum& p, const bf16* in, bf16* halo, int threads) const {
    const bf16* const from = in + image * p.in_height * p.in_width * C;
    for (int i = int(threadIdx.x); i < halo_rows * halo_width * kParts; i += threads) {
      const int part = i % kParts, c = i / kParts % halo_width, r = i / kParts / halo_width;
      const int y = row * S + p.first_row + r, x = column * S + p.first_column + c;
      const bool inside = 0 <= y && y < p.in_height && 0 <= x && x < p.in_width;
      const int64_t pixel = inside ? int64_t{y} * p.in_width + x : 0;
      cuda::copy_async_16(halo + at(r, c, part), from + pixel * C + part * 8, inside ? 16 : 0);
    }
  }
};

// Starts the copy of a slice of w, which is (Cout, 9, Cin): for each tap N rows of Cin from row
// `first` on; `Transposed`: Cout rows of N from column `first` on.
template <int C, int N, bool Transposed>
__device__ void load_weights(const bf16* w, int first, bf16* shared) {
  constexpr int kRows = Transposed ? C : N, kParts = (Transposed ? N : C) / 8;
  for (int i = int(threadIdx.x); i < 9 * kRows * kParts; i += kTapThreads) {
    const int part = i % kParts, tap = i / kParts % 9, row = i / kParts / 9;
    const int64_t from =
        Transposed ? (int64_t{row} * 9 + tap) * C + first : (int64_t{first + row} * 9 + tap) * C;
    cuda::copy_async_16(shared + in_shared<kParts>(tap * kRows + row, part), w + from + part * 8);
  }
}

// sum (M rows of 16 positions, N channels) += the halo, from the warp's first row and column of the
// tap on, times the tap's weights.
template <int C, int N, int S, bool Transposed, int M>
__device__ __forceinline__ void multiply(float (&sum)[M][N / 8][4], const Tile<C, S>& tile,
                                         const bf16* halo, int row, int column, const bf16* weights,
                                         int tap) {
  const int lane = int(threadIdx.x) % cuda::kWarp, low = lane % 16, high = lane / 16;
  const int third = lane / 8;
#pragma unroll
  for (int k = 0; k < C / 16; ++k) {
    uint32_t a[M][4];
#pragma unroll
    for (int m = 0; m < M; ++m)
      cuda::load_matrices<false>(a[m], halo + tile.at(row + m * S, low * S + column, 2 * k + high));
#pragma unroll
    for (int pair = 0; pair < N / 16; ++pair) {  // 16 channels
      uint32_t b[4];
      if constexpr (Transposed)
        cuda::load_matrices<true>(
            b, weights + in_shared<N / 8>(tap * C + 16 * k + low, 2 * pair + high));
      else
        cuda::load_matrices<false>(
            b, weights + in_shared<C / 8>(tap * N + 16 * pair + lane % 8 + third / 2 * 8,
                                          2 * k + third % 2));
#pragma unroll
      for (int m = 0; m < M; ++m) {
        cuda::mma_16x8x16(sum[m][2 * pair], a[m], {b[0], b[1]});
        cuda::mma_16x8x16(sum[m][2 * pair + 1], a[m], {b[2], b[3]});
      }
    }
  }
}

// Where the sums go: y, or the gradient of x.
struct TapOut {
  bf16* data;
  const bf16* bias;  // or null
  bool accumulate;
};

// Writes N channels, from `first` on, of a row of 16 positions.
template <int C, int N>
__device__ __forceinline__ void write_row(const float (&sum)[N / 8][4], const TapSum& p,
                                          const Phase& phase, int64_t image, int row, int column,
                                          int first, const TapOut& out) {
  const int g = int(threadIdx.x) % cuda::kWarp / 4;
  const int y = row * p.out_stride + phase.row;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int position = column + g + 8 * half, x = position * p.out_stride + phase.column;
    const bool inside = row < p.rows && position < p.columns && y < p.out_height && x < p.out_width;
    bf16* const to = out.data + ((image * p.out_height + y) * p.out_width + x) * C;
#pragma unroll
    for (int j = 0; j < N / 8; j += 2) {
      cuda::Vec<float, 4> v = four_columns(sum[j], sum[j + 1], half);
      if (!inside) continue;
      const int channel = first + 8 * j + first_of_four();
      if (out.bias) add_from(v, out.bias + channel);
      if (out.accumulate) add_from(v, to + channel);
      cuda::store_float<4>(to + channel, v);
    }
  }
}

// grid (blocks, C / N): slices of N channels of the output.
template <int C, int N, int S, bool Transposed>
__global__ void __launch_bounds__(kTapThreads, 2)
    taps_kernel(TapSum p, const bf16* in, const bf16* w, TapOut out) {
  constexpr int M = Tile<C, S>::kRows / (kTapThreads / cuda::kWarp);  // rows of positions a warp
  bf16* const weights = cuda::dynamic_shared<bf16>();
  bf16* const halo = weights + 9 * C * N;
  const int own = int(threadIdx.x) / cuda::kWarp * M, first = int(blockIdx.y) * N;
  load_weights<C, N, Transposed>(w, first, weights);
  const int tiles = Tile<C, S>::tiles_of(p);
  for (int t = int(blockIdx.x); t < tiles; t += int(gridDim.x)) {
    const Tile<C, S> tile(p, t);
    tile.load(p, in, halo, kTapThreads);
    cuda::commit_copies();
    cuda::wait_copies<0>();
    __syncthreads();
    for (int i = 0; i < p.phases; ++i) {
      const Phase& phase = p.phase[i];
      float sum[M][N / 8][4] = {};
      for (int n = 0; n < phase.count; ++n) {
        const Tap& tap = phase.taps[n];
        multiply<C, N, S, Transposed, M>(sum, tile, halo, own * S + tap.row - p.first_row,
                                         tap.column - p.first_column, weights, tap.weights);
      }
#pragma unroll
      for (int m = 0; m < M; ++m)
        write_row<C, N>(sum[m], p, phase, tile.image, tile.row + own + m, tile.column, first, out);
    }
    __syncthreads();
  }
}

}  // namespace sg::conv2d_cuda
