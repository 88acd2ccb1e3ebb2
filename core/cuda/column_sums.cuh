// Sums over the rows of a matrix: the gradient of a bias. For *_cuda.cu files.
//
// One pass over the matrix. A block takes a band of columns and a part of the rows; its threads
// stand in rows as wide as the band, each adds every so many rows, and then they are added in
// order. The parts' sums are added by the same kernel.
#pragma once
#include "core/cuda/kernel.cuh"

namespace sg::cuda {

constexpr int kColumnThreads = 256;

// grid (bands, parts): part p writes row p of `sums`, which is (parts, n).
template <class T, int N>
__global__ void __launch_bounds__(kColumnThreads)
    column_sums_kernel(const T* a, int64_t rows, int64_t n, int band, GradPtr<float> sums) {
  __shared__ float shared[kColumnThreads][N];
  const int column = int(threadIdx.x) % band, line = int(threadIdx.x) / band;
  const int lines = kColumnThreads / band;
  const int64_t at = (int64_t{blockIdx.x} * band + column) * N;
  const int64_t end = rows * (blockIdx.y + 1) / gridDim.y;
  float sum[N] = {};
  if (at < n) {
#pragma unroll 4
    for (int64_t r = rows * blockIdx.y / gridDim.y + line; r < end; r += lines) {
      const auto v = load_float<N>(a + r * n + at);
#pragma unroll
      for (int i = 0; i < N; ++i) sum[i] += v[i];
    }
  }
#pragma unroll
  for (int i = 0; i < N; ++i) shared[threadIdx.x][i] = sum[i];
  __syncthreads();
  for (int j = int(threadIdx.x); j < band * N; j += kColumnThreads) {
    const int64_t to = int64_t{blockIdx.x} * band * N + j;
    if (to >= n) continue;
    float total = 0;
    for (int l = 0; l < lines; ++l) total += shared[l * band + j / N][j % N];
    sums.put(blockIdx.y * n + to, total);
  }
}

// sum (n) = column sums of a (rows, n).
template <class T>
void column_sums(Stream& stream, const T* a, int64_t rows, int64_t n, GradPtr<float> sum) {
  constexpr int64_t kBlocks = 1024, kMinRows = 256;  // in all, and of a part
  with_vectors<T>(n, [&](auto width) {
    constexpr int N = decltype(width)::value;
    int band = 1;
    while (band < kWarp && band * N < n) band *= 2;
    const int64_t bands = ceil_div(n, band * N);
    const int64_t parts = std::clamp<int64_t>(rows / kMinRows, 1, ceil_div(kBlocks, bands));
    const dim3 grid{unsigned(bands), unsigned(parts)};
    const Launch l{"column_sums", grid, kColumnThreads};
    if (parts == 1) return launch(stream, l, column_sums_kernel<T, N>, a, rows, n, band, sum);
    Tensor partial = empty({parts, n}, Dtype::f32, stream.device);
    launch(stream, l, column_sums_kernel<T, N>, a, rows, n, band,
           GradPtr<float>{partial.data<float>(), false});
    column_sums<float>(stream, partial.data<float>(), parts, n, sum);
  });
}

}  // namespace sg::cuda
