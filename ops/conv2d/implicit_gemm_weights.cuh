// The gradient of the weights of the convolutions of implicit_gemm.cuh: dw (Cout, tap, Cin) is dy^T
// times the map, moved by the tap, over all windows.
//
// A block adds over tile after tile of 16 columns of windows and keeps its part of dw in registers
// (N channels of Cout; a warp has eight of Cin and all taps); the next tile's dy and map, with its
// halo, come to shared memory meanwhile. So dy is read once, and the map 1.2 to 1.4 times for each
// N of Cout. The blocks' sums are added in order.
#pragma once
#include "ops/conv2d/implicit_gemm.cuh"

namespace sg::conv2d_cuda {

template <int C>
constexpr int kGradThreads = C / 8 * cuda::kWarp;

// Where part `part` of N channels of a window of the tile lies, in elements.
template <int N>
__device__ __forceinline__ int window_at(int row, int column, int part) {
  return in_shared<N / 8>(row * kTileColumns + column, part);
}

// Starts the copy of dy's channels [first, first + N) of a tile, zeros beyond the map.
template <int C, int N, int S>
__device__ void load_windows(const Tile<C, S>& tile, const TapSum& p, const bf16* dy, int first,
                             bf16* shared) {
  constexpr int kParts = N / 8;
  for (int i = int(threadIdx.x); i < Tile<C, S>::kRows * kTileColumns * kParts;
       i += kGradThreads<C>) {
    const int part = i % kParts, c = i / kParts % kTileColumns, r = i / kParts / kTileColumns;
    const bool inside = tile.row + r < p.rows && tile.column + c < p.columns;
    const int64_t window =
        inside ? (tile.image * p.rows + tile.row + r) * p.columns + tile.column + c : 0;
    cuda::copy_async_16(shared + window_at<N>(r, c, part), dy + window * C + first + part * 8,
                        inside ? 16 : 0);
  }
}

// Adds a row of 16 windows: sum[m][tap] has 16 channels of Cout and the warp's eight of Cin.
template <int C, int N, int S>
__device__ __forceinline__ void add_windows(float (&sum)[N / 16][9][4], const Tile<C, S>& tile,
                                            int row, const bf16* halo, const bf16* windows) {
  const int lane = int(threadIdx.x) % cuda::kWarp, low = lane % 16, third = lane / 8;
  const int warp = int(threadIdx.x) / cuda::kWarp;
  uint32_t a[N / 16][4];
#pragma unroll
  for (int m = 0; m < N / 16; ++m)
    cuda::load_matrices<true>(
        a[m], windows + window_at<N>(row, lane % 8 + third / 2 * 8, 2 * m + third % 2));
#pragma unroll
  for (int pair = 0; pair < 9; pair += 2) {
    const int tap = pair < 8 ? pair + lane / 16 : 8;  // the last is alone
    uint32_t b[4];
    cuda::load_matrices<true>(b, halo + tile.at(row * S + tap / 3, low * S + tap % 3, warp));
#pragma unroll
    for (int m = 0; m < N / 16; ++m) {
      cuda::mma_16x8x16(sum[m][pair], a[m], {b[0], b[1]});
      if (pair < 8) cuda::mma_16x8x16(sum[m][(pair + 1) % 9], a[m], {b[2], b[3]});
    }
  }
}

// grid (blocks, C / N). Blocks i write row i of `parts`, which is (blocks, C * 9 * C). `p` is the
// convolution; a buffer holds a tile of dy and of the map, `buffer` elements.
template <int C, int N, int S>
__global__ void __launch_bounds__(kGradThreads<C>, 1)
    taps_weights_kernel(TapSum p, int buffer, const bf16* x, const bf16* dy, float* parts) {
  constexpr int kWindows = Tile<C, S>::kRows * kTileColumns * N;
  bf16* const shared = cuda::dynamic_shared<bf16>();
  const int tiles = Tile<C, S>::tiles_of(p), first = int(blockIdx.y) * N;
  const auto load = [&](int t, int which) {
    if (t < tiles) {
      const Tile<C, S> tile(p, t);
      load_windows<C, N>(tile, p, dy, first, shared + which * buffer);
      tile.load(p, x, shared + which * buffer + kWindows, kGradThreads<C>);
    }
    cuda::commit_copies();
  };
  float sum[N / 16][9][4] = {};
  int which = 0;
  load(int(blockIdx.x), which);
  for (int t = int(blockIdx.x); t < tiles; t += int(gridDim.x), which = 1 - which) {
    load(t + int(gridDim.x), 1 - which);
    cuda::wait_copies<1>();
    __syncthreads();
    const Tile<C, S> tile(p, t);
    const bf16* const windows = shared + which * buffer;
    for (int row = 0; row < Tile<C, S>::kRows; ++row)
      add_windows<C, N>(sum, tile, row, windows + kWindows, windows);
    __syncthreads();
  }
  const int lane = int(threadIdx.x) % cuda::kWarp, g = lane / 4, t = lane % 4;
  const int cin = int(threadIdx.x) / cuda::kWarp * 8 + 2 * t;
  float* const part = parts + int64_t{blockIdx.x} * (C * 9 * C);
#pragma unroll
  for (int m = 0; m < N / 16; ++m)
#pragma unroll
    for (int tap = 0; tap < 9; ++tap)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int cout = first + 16 * m + g + 8 * half;
        cuda::store<2>(part + (cout * 9 + tap) * C + cin,
                       cuda::Vec<float, 2>{{sum[m][tap][2 * half], sum[m][tap][2 * half + 1]}});
      }
}

}  // namespace sg::conv2d_cuda
