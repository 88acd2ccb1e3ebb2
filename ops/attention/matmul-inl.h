// Small matmuls in cache: packing, and one register-blocked kernel for all matmuls of attention.
// Included once a target, as core/cpu/simd-inl.h.
#if defined(SG_ATTENTION_MATMUL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SG_ATTENTION_MATMUL_INL_H_
#undef SG_ATTENTION_MATMUL_INL_H_
#else
#define SG_ATTENTION_MATMUL_INL_H_
#endif

#include "core/cpu/amx.h"
#include "core/cpu/simd-inl.h"

// Highway 1.0 has no target with the instructions for bf16. Here AVX3 has them; only intrinsics
// make them, in functions that are called where has_bf16_products() alone.
#if HWY_TARGET == HWY_AVX3
#include <immintrin.h>
#undef HWY_TARGET_STR
#define HWY_TARGET_STR HWY_TARGET_STR_AVX3 ",avx512bf16"
#endif

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {

// Rows of the tile of two vectors that is kept in registers: 16 accumulators of 32 registers, 12
// of 16.
constexpr int kTileRows = HWY_TARGET <= HWY_AVX3 ? 8 : 6;

template <class T>
constexpr int64_t lanes() {
  return int64_t(hn::MaxLanes(hn::ScalableTag<T>()));
}
template <class T>
constexpr int64_t whole_vectors(int64_t n) {
  return (n + lanes<T>() - 1) / lanes<T>() * lanes<T>();
}

// n elements are cut in whole vectors and, if the rest fits in it, half a vector.
template <class T>
using Half = hn::CappedTag<T, (lanes<T>() + 1) / 2>;
template <class T>
constexpr int64_t vectors_before_half(int64_t n) {
  return (n + (lanes<T>() + 1) / 2 - 1) / lanes<T>();
}

// f(d, i) over n elements of scratch that is padded to whole vectors.
template <class T, class F>
HWY_INLINE void each_vector(int64_t n, const F& f) {
  int64_t i = 0;
  for (const int64_t end = vectors_before_half<T>(n) * lanes<T>(); i < end; i += lanes<T>())
    f(hn::ScalableTag<T>(), i);
  if (i < n) f(Half<T>(), i);
}

// What matmuls multiply is of T, the type of their sums, or pairs of bf16: two terms that are
// neighbours along the sum, the first in the low half. An odd number of terms is filled up with a
// zero. Products of pairs take denormals for zero.
using Pair = uint32_t;
template <class E>
constexpr bool kPairs = std::is_same_v<E, Pair>;
template <class E>
constexpr int64_t elements(int64_t terms) {
  return kPairs<E> ? (terms + 1) / 2 : terms;
}

// How a matmul multiplies: numbers, pairs, or pairs by tiles of AMX (amx-inl.h).
template <class T>
struct Numbers {
  using Element = T;
  struct Scope {};
};
struct Pairs : Numbers<Pair> {};
struct Tiles {
  using Element = Pair;
  using Scope = amx::Scope;
};
template <class M>
constexpr bool kTiles = std::is_same_v<M, Tiles>;
// n terms of a sum, filled up to whole tiles.
template <class M>
constexpr int64_t whole_sum(int64_t n) {
  return kTiles<M> ? (n + 31) / 32 * 32 : n;
}
// n rows or elements along a sum, likewise.
template <class M>
constexpr int64_t whole_tiles(int64_t n) {
  return kTiles<M> ? (n + 15) / 16 * 16 : n;
}

template <class V>
HWY_INLINE V multiply_add(V a, V b, V sum) {
  return hn::MulAdd(a, b, sum);
}

#if HWY_TARGET == HWY_AVX3
HWY_INLINE hn::Vec512<float> multiply_add(hn::Vec512<Pair> a, hn::Vec512<Pair> b,
                                          hn::Vec512<float> sum) {
  return hn::Vec512<float>{_mm512_dpbf16_ps(sum.raw, __m512bh(a.raw), __m512bh(b.raw))};
}
HWY_INLINE hn::Vec256<float> multiply_add(hn::Vec256<Pair> a, hn::Vec256<Pair> b,
                                          hn::Vec256<float> sum) {
  return hn::Vec256<float>{_mm256_dpbf16_ps(sum.raw, __m256bh(a.raw), __m256bh(b.raw))};
}

// Rounds to nearest even.
HWY_INLINE hn::Vec256<uint16_t> to_bf16(hn::Vec512<float> v) {
  return hn::Vec256<uint16_t>{__m256i(_mm512_cvtneps_pbh(v.raw))};
}
HWY_INLINE hn::Vec128<uint16_t> to_bf16(hn::Vec256<float> v) {
  return hn::Vec128<uint16_t>{__m128i(_mm256_cvtneps_pbh(v.raw))};
}
HWY_INLINE hn::Vec512<uint16_t> to_bf16(hn::Vec512<float> low, hn::Vec512<float> high) {
  return hn::Vec512<uint16_t>{__m512i(_mm512_cvtne2ps_pbh(high.raw, low.raw))};
}

// Pairs of lane i of the lower half and lane i of the upper one, each 16 bits.
template <int kLanes>
struct PairOrder {
  alignas(64) uint16_t lanes[2 * kLanes];
  constexpr PairOrder() : lanes() {
    for (int i = 0; i < 2 * kLanes; ++i) lanes[i] = uint16_t(i / 2 + i % 2 * kLanes);
  }
};
HWY_INLINE hn::Vec512<Pair> pair_halves(__m512i v) {
  static constexpr PairOrder<16> order;
  return hn::Vec512<Pair>{_mm512_permutexvar_epi16(_mm512_load_si512(order.lanes), v)};
}
// Pairs of a lane of each.
HWY_INLINE hn::Vec512<Pair> pairs_of(hn::Vec256<uint16_t> first, hn::Vec256<uint16_t> second) {
  return pair_halves(hn::Combine(hn::Full512<uint16_t>(), second, first).raw);
}
HWY_INLINE hn::Vec512<Pair> pairs_of(hn::Vec512<float> first, hn::Vec512<float> second) {
  return pair_halves(to_bf16(first, second).raw);
}
HWY_INLINE hn::Vec256<Pair> pairs_of(hn::Vec256<float> first, hn::Vec256<float> second) {
  static constexpr PairOrder<8> order;
  const __m256i both = __m256i(_mm256_cvtne2ps_pbh(second.raw, first.raw));
  return hn::Vec256<Pair>{_mm256_permutexvar_epi16(
      _mm256_load_si256(reinterpret_cast<const __m256i*>(order.lanes)), both)};
}
#endif

// Element (i, j) of a matrix that may be transposed: data[i * row + j * column].
template <class E>
struct Strided {
  const E* data;
  int64_t row, column;
};

// M rows and N vectors (of tag D) of a matmul.
template <class D, int M, int N, bool add, class E, class T = hn::TFromD<D>>
HWY_INLINE void matmul_tile(int64_t k, Strided<E> a, const E* b, int64_t ldb, T* c, int64_t ldc) {
  const D d;
  const hn::Rebind<E, D> operand;
  constexpr int64_t kLanes = hn::MaxLanes(D());
  hn::Vec<D> sum[M][N];
#pragma GCC unroll 8
  for (int i = 0; i < M; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < N; ++j) sum[i][j] = hn::Zero(d);
  for (int64_t p = 0; p < k; ++p) {
    hn::Vec<decltype(operand)> row[N];
#pragma GCC unroll 2
    for (int j = 0; j < N; ++j) row[j] = hn::Load(operand, b + p * ldb + j * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < M; ++i) {
      const auto factor = hn::Set(operand, a.data[i * a.row + p * a.column]);
#pragma GCC unroll 2
      for (int j = 0; j < N; ++j) sum[i][j] = multiply_add(factor, row[j], sum[i][j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < M; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < N; ++j) {
      T* const to = c + i * ldc + j * kLanes;
      hn::Store(add ? hn::Add(hn::Load(d, to), sum[i][j]) : sum[i][j], d, to);
    }
}

// The tile of `rows` rows, at most M. Inlined: a call is dear beside as few products.
template <class D, int M, int N, bool add, class E, class T = hn::TFromD<D>>
HWY_INLINE void matmul_rows(int64_t rows, int64_t k, Strided<E> a, const E* b, int64_t ldb, T* c,
                            int64_t ldc) {
  if constexpr (M > 1)
    if (rows < M) return matmul_rows<D, M - 1, N, add>(rows, k, a, b, ldb, c, ldc);
  matmul_tile<D, M, N, add>(k, a, b, ldb, c, ldc);
}

// c (m, n) (+)= a (m, k) b (k, n), where k counts elements. Rows of b and c are ldb and ldc
// elements apart, in aligned scratch padded to whole vectors; the padding of c is undefined. With
// `add` the matmul is summed on its own before it is added to c, which keeps rounding errors of
// long sums small.
template <class M, bool add = false, class E, class T>
requires(!kTiles<M>) void matmul(int64_t m, int64_t n, int64_t k, Strided<E> a, const E* b,
                                 int64_t ldb, T* c, int64_t ldc) {
  const int64_t tiles = (m + kTileRows - 1) / kTileRows;  // of as many rows, or one less
  const auto columns = [&]<class D, int N>(int64_t j) HWY_ATTR {
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t i = m * t / tiles, rows = m * (t + 1) / tiles - i;
      matmul_rows<D, kTileRows, N, add>(rows, k, {a.data + i * a.row, a.row, a.column}, b + j, ldb,
                                        c + i * ldc + j, ldc);
    }
  };
  using Whole = hn::ScalableTag<T>;
  int64_t j = 0;
  const int64_t end = vectors_before_half<T>(n) * lanes<T>();
  for (; j + lanes<T>() < end; j += 2 * lanes<T>()) columns.template operator()<Whole, 2>(j);
  if (j < end) columns.template operator()<Whole, 1>(j), j = end;
  if (j < n) columns.template operator()<Half<T>, 1>(j);
}

// f(d, i) over n elements of T in memory that is not padded.
template <class T, class F>
HWY_INLINE void each_part(int64_t n, const F& f) {
  const Half<T> half;
  int64_t i = 0;
  for (; i + lanes<T>() <= n; i += lanes<T>()) f(hn::ScalableTag<T>(), i);
  if (i + int64_t(hn::Lanes(half)) <= n) f(half, i), i += int64_t(hn::Lanes(half));
  for (; i < n; ++i) f(hn::CappedTag<T, 1>(), i);
}

// A row of n numbers as elements along it. Pairs are filled up with zeros to whole vectors.
template <class S, class E>
HWY_INLINE void load_row(int64_t n, const S* from, E* to) {
  if constexpr (kPairs<E>) {
    const hn::ScalableTag<E> pairs;
    const hn::Repartition<uint16_t, decltype(pairs)> d;
    for (int64_t i = 0; i < n; i += 2 * lanes<E>()) {
      const auto row = hn::MaskedLoad(hn::FirstN(d, size_t(n - i)), d, &from->bits + i);
      hn::Store(hn::BitCast(pairs, row), pairs, to + i / 2);
    }
  } else {
    each_part<E>(n, [&](auto d, int64_t i) HWY_ATTR { hn::StoreU(load(d, from + i), d, to + i); });
  }
}

// to[i] = from[i] * factor, from scratch that is padded to whole vectors.
template <class E, class T, class S>
HWY_INLINE void store_row(int64_t n, const T* from, T factor, S* to) {
  if constexpr (kPairs<E>) {
    const hn::ScalableTag<T> d;
    const hn::Repartition<uint16_t, decltype(d)> narrow;
    const auto f = hn::Set(d, factor);
    for (int64_t i = 0; i < n; i += 2 * lanes<T>()) {
      const auto low = hn::Mul(hn::Load(d, from + i), f);
      const int64_t j = i + lanes<T>();
      const auto high = j < n ? hn::Mul(hn::Load(d, from + j), f) : hn::Zero(d);
      const auto some = hn::FirstN(narrow, size_t(n - i));
      hn::BlendedStore(to_bf16(low, high), some, narrow, &to->bits + i);
    }
  } else {
    each_part<T>(n, [&](auto d, int64_t i) HWY_ATTR {
      store(hn::Mul(hn::Load(d, from + i), hn::Set(d, factor)), d, to + i);
    });
  }
}

// Rows (rows, d) of elements along d as rows (elements(rows), d) of elements across them, in `to`.
// Where an element is one number they are the same.
template <class E>
HWY_INLINE const E* across_rows(int64_t rows, int64_t d, const E* from, E* to) {
  if constexpr (kPairs<E>) {
    const hn::ScalableTag<E> pairs;
    const hn::Rebind<uint16_t, decltype(pairs)> half;
    const int64_t ld = whole_vectors<E>(elements<E>(d));
    E* at = to;
    for (int64_t r = 0; r < rows; r += 2, at += whole_vectors<E>(d), from += 2 * ld)
      for (int64_t j = 0; j < d; j += lanes<E>()) {
        // Of bf16, half as many elements.
        const auto* const low = reinterpret_cast<const uint16_t*>(from) + j;
        const auto first = hn::Load(half, low);
        const auto second = r + 1 < rows ? hn::Load(half, low + 2 * ld) : hn::Zero(half);
        hn::Store(pairs_of(first, second), pairs, at + j);
      }
    return to;
  } else {
    return from;
  }
}

// to (columns, ldt) = transpose of from (rows, ld).
template <class T>
void transpose(int64_t rows, int64_t columns, const T* from, int64_t ld, T* to, int64_t ldt) {
  int64_t r = 0;
#if HWY_TARGET != HWY_SCALAR
  if constexpr (sizeof(T) == 4) {
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
