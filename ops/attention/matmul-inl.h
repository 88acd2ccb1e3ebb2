// Small matmuls in cache: packing, and one register-blocked kernel for all six matmuls of
// attention. Included once a target, as core/cpu/simd-inl.h.
#if defined(SG_ATTENTION_MATMUL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SG_ATTENTION_MATMUL_INL_H_
#undef SG_ATTENTION_MATMUL_INL_H_
#else
#define SG_ATTENTION_MATMUL_INL_H_
#endif

#include "core/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {

// Rows and vectors of the tile that is kept in registers: 24 accumulators of 32 registers, 12
// of 16.
constexpr int kTileRows = HWY_TARGET <= HWY_AVX3 ? 8 : 4;
constexpr int kTileVectors = 3;

template <class T>
constexpr int64_t lanes() {
  return int64_t(hn::MaxLanes(hn::ScalableTag<T>()));
}
template <class T>
constexpr int64_t whole_vectors(int64_t n) {
  return (n + lanes<T>() - 1) / lanes<T>() * lanes<T>();
}

// f(d, i) over n elements of padded scratch, in whole vectors; a rest that fits in half a vector is
// half a vector.
template <class T, class F>
HWY_INLINE void each_vector(int64_t n, const F& f) {
  int64_t i = 0;
  for (; i + lanes<T>() / 2 < n; i += lanes<T>()) f(hn::ScalableTag<T>(), i);
  if (i < n) f(hn::CappedTag<T, (lanes<T>() + 1) / 2>(), i);
}

// Element (i, j) of a matrix that may be transposed: data[i * row + j * column].
template <class T>
struct Strided {
  const T* data;
  int64_t row, column;
};

// M rows and N vectors (of tag D) of a matmul.
template <class D, int M, int N, class T = hn::TFromD<D>>
HWY_INLINE void matmul_tile(int64_t k, Strided<T> a, const T* b, int64_t ldb, T* c, int64_t ldc,
                            bool add) {
  const D d;
  constexpr int64_t kLanes = hn::MaxLanes(D());
  hn::Vec<D> sum[M][N];
#pragma GCC unroll 8
  for (int i = 0; i < M; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) sum[i][j] = hn::Zero(d);
  for (int64_t p = 0; p < k; ++p) {
    hn::Vec<D> row[N];
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) row[j] = hn::Load(d, b + p * ldb + j * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < M; ++i) {
      const auto factor = hn::Set(d, a.data[i * a.row + p * a.column]);
#pragma GCC unroll 8
      for (int j = 0; j < N; ++j) sum[i][j] = hn::MulAdd(factor, row[j], sum[i][j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < M; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) {
      T* const to = c + i * ldc + j * kLanes;
      hn::Store(add ? hn::Add(hn::Load(d, to), sum[i][j]) : sum[i][j], d, to);
    }
}

template <class D, int M, int N, class T = hn::TFromD<D>>
HWY_INLINE void matmul_rows(int64_t m, int64_t k, Strided<T> a, const T* b, int64_t ldb, T* c,
                            int64_t ldc, bool add) {
  for (; m >= M; m -= M, a.data += M * a.row, c += M * ldc)
    matmul_tile<D, M, N>(k, a, b, ldb, c, ldc, add);
  if constexpr (M > 1)
    if (m > 0) matmul_rows<D, M / 2, N>(m, k, a, b, ldb, c, ldc, add);
}

// c (m, n) (+)= a (m, k) b (k, n). Rows of b and c are ldb and ldc elements apart, in aligned
// scratch padded to whole vectors; the padding of c is undefined. With `add` the matmul is summed
// on its own before it is added to c, which keeps rounding errors of long sums small.
template <class T>
void matmul(int64_t m, int64_t n, int64_t k, Strided<T> a, const T* b, int64_t ldb, T* c,
            int64_t ldc, bool add = false) {
  using Whole = hn::ScalableTag<T>;
  using Half = hn::CappedTag<T, (lanes<T>() + 1) / 2>;
  while (n > 0) {
    const int64_t vectors = (n + lanes<T>() / 2) / lanes<T>();  // the rest fits in half a vector
    // 4 vectors are better cut in 2 + 2 than in 3 + 1.
    const int64_t panels = (vectors + kTileVectors - 1) / kTileVectors;
    const int64_t width = panels ? (vectors + panels - 1) / panels : 0;
    if (width == 3)
      matmul_rows<Whole, kTileRows, 3>(m, k, a, b, ldb, c, ldc, add);
    else if (width == 2)
      matmul_rows<Whole, kTileRows, 2>(m, k, a, b, ldb, c, ldc, add);
    else if (width == 1)
      matmul_rows<Whole, kTileRows, 1>(m, k, a, b, ldb, c, ldc, add);
    else
      matmul_rows<Half, kTileRows, 1>(m, k, a, b, ldb, c, ldc, add);
    const int64_t done = width ? width * lanes<T>() : n;
    n -= done, b += done, c += done;
  }
}

// to[i] = from[i] * factor, where one of the two may be of another storage type than T.
template <class From, class T, class To>
HWY_INLINE void copy_scaled(int64_t n, const From* from, T factor, To* to) {
  for_lanes<T>(n, [&](auto d, int64_t i) HWY_ATTR {
    store(hn::Mul(load(d, from + i), hn::Set(d, factor)), d, to + i);
  });
}

// to (columns, ldt) = transpose of from (rows, ld).
template <class T>
void transpose(int64_t rows, int64_t columns, const T* from, int64_t ld, T* to, int64_t ldt) {
  int64_t r = 0;
#if HWY_TARGET != HWY_SCALAR
  if constexpr (std::is_same_v<T, float>) {
    const hn::CappedTag<T, 4> four;
    const hn::RepartitionToWide<decltype(four)> two;
    for (; r + 4 <= rows; r += 4) {
      int64_t c = 0;
      for (; c + 4 <= columns; c += 4) {
        const T* const p = from + r * ld + c;
        T* const q = to + c * ldt + r;
        const auto a0 = hn::LoadU(four, p), a1 = hn::LoadU(four, p + ld);
        const auto a2 = hn::LoadU(four, p + 2 * ld), a3 = hn::LoadU(four, p + 3 * ld);
        const auto low01 = hn::BitCast(two, hn::InterleaveLower(four, a0, a1));
        const auto low23 = hn::BitCast(two, hn::InterleaveLower(four, a2, a3));
        const auto high01 = hn::BitCast(two, hn::InterleaveUpper(four, a0, a1));
        const auto high23 = hn::BitCast(two, hn::InterleaveUpper(four, a2, a3));
        const auto put = [&](auto v, int64_t row)
                             HWY_ATTR { hn::StoreU(hn::BitCast(four, v), four, q + row * ldt); };
        put(hn::InterleaveLower(two, low01, low23), 0);
        put(hn::InterleaveUpper(two, low01, low23), 1);
        put(hn::InterleaveLower(two, high01, high23), 2);
        put(hn::InterleaveUpper(two, high01, high23), 3);
      }
      for (; c < columns; ++c)
        for (int64_t i = r; i < r + 4; ++i) to[c * ldt + i] = from[i * ld + c];
    }
  }
#endif
  for (; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c) to[c * ldt + r] = from[r * ld + c];
}

}  // namespace sg::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
