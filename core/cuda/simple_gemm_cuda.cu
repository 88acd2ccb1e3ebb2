// A block makes a tile of 64 x 64 of c, a thread 4 x 4 of it, 16 apart; terms come to shared memory
// 16 at a time, element by element, since nothing is known of their alignment.
#include "core/cuda/kernel.cuh"
#include "core/cuda/simple_gemm.h"

namespace sg::cuda {
namespace {

constexpr int kSide = 64, kTerms = 16, kThreads = 256, kAcross = 16, kEach = kSide / kAcross;
static_assert(kAcross * kAcross == kThreads);

template <class T>
struct Matrix {
  const T* data;
  int64_t stride, rows, columns;  // as the matmul uses it
  bool transposed;
  __device__ float at(int64_t row, int64_t column) const {
    if (row >= rows || column >= columns) return 0;
    return to_float(data[transposed ? column * stride + row : row * stride + column]);
  }
};

// Element `i` of a tile of (lines, kTerms) or (kTerms, lines): neighbouring threads take neighbours
// in memory.
struct TileElement {
  int line, term;
  __device__ TileElement(int i, bool terms_are_neighbours)
      : line(terms_are_neighbours ? i / kTerms : i % kSide),
        term(terms_are_neighbours ? i % kTerms : i / kSide) {}
};

template <class From, class To>
__global__ void __launch_bounds__(kThreads)
    simple_gemm_kernel(Matrix<From> a, Matrix<From> b, To* c, int64_t c_stride, bool accumulate) {
  __shared__ float as[kTerms][kSide + 1], bs[kTerms][kSide + 1];
  const int64_t tiles = (b.columns + kSide - 1) / kSide;
  const int64_t first_row = blockIdx.x / tiles * kSide, first_column = blockIdx.x % tiles * kSide;
  const int row = int(threadIdx.x) / kAcross, column = int(threadIdx.x) % kAcross;
  float sums[kEach][kEach] = {};
  for (int64_t first = 0; first < a.columns; first += kTerms) {
    for (int i = int(threadIdx.x); i < kSide * kTerms; i += kThreads) {
      const TileElement of_a(i, !a.transposed), of_b(i, b.transposed);
      as[of_a.term][of_a.line] = a.at(first_row + of_a.line, first + of_a.term);
      bs[of_b.term][of_b.line] = b.at(first + of_b.term, first_column + of_b.line);
    }
    __syncthreads();
    for (int term = 0; term < kTerms; ++term)
#pragma unroll
      for (int i = 0; i < kEach; ++i)
#pragma unroll
        for (int j = 0; j < kEach; ++j)
          sums[i][j] =
              fmaf(as[term][row + i * kAcross], bs[term][column + j * kAcross], sums[i][j]);
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i)
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      const int64_t r = first_row + row + i * kAcross, q = first_column + column + j * kAcross;
      if (r < a.rows && q < b.columns) GradPtr<To>{c, accumulate}.put(r * c_stride + q, sums[i][j]);
    }
}

}  // namespace

void simple_gemm(Stream& stream, const Gemm& p) {
  const int64_t blocks = ceil_div(p.m, kSide) * ceil_div(p.n, kSide);
  dispatch<float, bf16>(p.in, "gemm", [&]<class From>() {
    dispatch<float, bf16>(p.out, "gemm", [&]<class To>() {
      const auto matrix = [](const GemmOperand<void>& o, int64_t rows, int64_t columns) {
        return Matrix<From>{static_cast<const From*>(o.data), o.stride, rows, columns,
                            o.transposed};
      };
      launch(stream, {"simple_gemm", unsigned(blocks), kThreads}, simple_gemm_kernel<From, To>,
             matrix(p.a, p.m, p.k), matrix(p.b, p.k, p.n), static_cast<To*>(p.c), p.c_stride,
             p.accumulate);
    });
  });
}

double simple_gemm_extra_bytes(const Gemm& p) {
  const double again_a = double(ceil_div(p.n, kSide) - 1),
               again_b = double(ceil_div(p.m, kSide) - 1);
  return double(size_of(p.in)) *
         (double(p.m) * double(p.k) * again_a + double(p.k) * double(p.n) * again_b);
}

}  // namespace sg::cuda
