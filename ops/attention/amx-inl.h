// Matmuls of attention by tiles of AMX, and the layouts that they want. Included once a target, as
// core/cpu/simd-inl.h; for code that runs where has_amx().
#if defined(SG_ATTENTION_AMX_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SG_ATTENTION_AMX_INL_H_
#undef SG_ATTENTION_AMX_INL_H_
#else
#define SG_ATTENTION_AMX_INL_H_
#endif

#include "core/cpu/amx.h"
#include "ops/attention/matmul-inl.h"

#if HWY_TARGET == HWY_AVX3
HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {

// R x C tiles of a matmul: c in tiles 0 to 3, a in 4 and 5, b in 6 and 7.
template <int R, int C, bool add>
HWY_INLINE void multiply_tiles(int64_t k, const Pair* a, int64_t lda, const Pair* b, int64_t ldb,
                               float* c, int64_t ldc) {
  constexpr int64_t kRows = amx::kRows;
  const int64_t a_bytes = lda * 4, b_bytes = ldb * 4, c_bytes = ldc * 4;
  const auto start = [&]<int tile>(int64_t row, int64_t column) SG_INLINE_ATTR {
    if constexpr (add)
      amx::load<tile>(c + row * ldc + column, c_bytes);
    else
      amx::zero<tile>();
  };
  start.template operator()<0>(0, 0);
  if constexpr (C > 1) start.template operator()<1>(0, kRows);
  if constexpr (R > 1) start.template operator()<2>(kRows, 0);
  if constexpr (R > 1 && C > 1) start.template operator()<3>(kRows, kRows);
  for (int64_t p = 0; p < k; p += amx::kPairs) {
    amx::load<6>(b + p * ldb, b_bytes);
    amx::load<4>(a + p, a_bytes);
    amx::multiply_add<0, 4, 6>();
    if constexpr (C > 1) amx::load<7>(b + p * ldb + kRows, b_bytes);
    if constexpr (C > 1) amx::multiply_add<1, 4, 7>();
    if constexpr (R > 1) amx::load<5>(a + kRows * lda + p, a_bytes);
    if constexpr (R > 1) amx::multiply_add<2, 5, 6>();
    if constexpr (R > 1 && C > 1) amx::multiply_add<3, 5, 7>();
  }
  amx::store<0>(c, c_bytes);
  if constexpr (C > 1) amx::store<1>(c + kRows, c_bytes);
  if constexpr (R > 1) amx::store<2>(c + kRows * ldc, c_bytes);
  if constexpr (R > 1 && C > 1) amx::store<3>(c + kRows * ldc + kRows, c_bytes);
}

// As matmul() of pairs, of a with columns side by side. k is a multiple of a tile's; m and n are
// rounded up to whole tiles, which all operands have room for. Where a term is padding, both of its
// factors are finite and one is 0.
template <class M, bool add = false>
requires kTiles<M>
void matmul(int64_t m, int64_t n, int64_t k, Strided<Pair> a, const Pair* b, int64_t ldb, float* c,
            int64_t ldc) {
  constexpr int64_t kRows = amx::kRows;
  for (int64_t i = 0; i < m; i += 2 * kRows)
    for (int64_t j = 0; j < n; j += 2 * kRows) {
      const auto multiply = [&]<int R, int C>() HWY_ATTR {
        multiply_tiles<R, C, add>(k, a.data + i * a.row, a.row, b + j, ldb, c + i * ldc + j, ldc);
      };
      const bool rows = i + kRows < m, columns = j + kRows < n;
      if (rows && columns)
        multiply.template operator()<2, 2>();
      else if (rows)
        multiply.template operator()<2, 1>();
      else if (columns)
        multiply.template operator()<1, 2>();
      else
        multiply.template operator()<1, 1>();
    }
}

// to (16, ldt) = transpose of 16 x 16 elements of from (16, ld).
HWY_INLINE void transpose_tile(const Pair* from, int64_t ld, Pair* to, int64_t ldt) {
#pragma GCC unroll 4
  for (int64_t c = 0; c < 16; c += 4) {
    // Lane l of v[i]: four elements of row 4 l + i.
    __m512i v[4];
#pragma GCC unroll 4
    for (int64_t i = 0; i < 4; ++i) {
      const auto part = [&](int64_t l) HWY_ATTR {
        return _mm_load_si128(reinterpret_cast<const __m128i*>(from + (4 * l + i) * ld + c));
      };
      v[i] = _mm512_castsi128_si512(part(0));
      v[i] = _mm512_mask_broadcast_i32x4(v[i], 0x00f0, part(1));
      v[i] = _mm512_mask_broadcast_i32x4(v[i], 0x0f00, part(2));
      v[i] = _mm512_mask_broadcast_i32x4(v[i], 0xf000, part(3));
    }
    const __m512i low01 = _mm512_unpacklo_epi32(v[0], v[1]);
    const __m512i low23 = _mm512_unpacklo_epi32(v[2], v[3]);
    const __m512i high01 = _mm512_unpackhi_epi32(v[0], v[1]);
    const __m512i high23 = _mm512_unpackhi_epi32(v[2], v[3]);
    _mm512_store_si512(to + (c + 0) * ldt, _mm512_unpacklo_epi64(low01, low23));
    _mm512_store_si512(to + (c + 1) * ldt, _mm512_unpackhi_epi64(low01, low23));
    _mm512_store_si512(to + (c + 2) * ldt, _mm512_unpacklo_epi64(high01, high23));
    _mm512_store_si512(to + (c + 3) * ldt, _mm512_unpackhi_epi64(high01, high23));
  }
}

// As across_rows(), but transposed: to (d, rows) of pairs across rows, filled up to whole tiles
// with zeros and ldt apart.
HWY_INLINE void across_rows_transposed(int64_t rows, int64_t d, const Pair* from, Pair* to,
                                       int64_t ldt) {
  alignas(64) Pair tile[16 * 16];
  const int64_t ld = whole_vectors<Pair>(elements<Pair>(d));
  for (int64_t r = 0; r < rows; r += 32, to += 16)
    for (int64_t j = 0; j < d; j += 16) {
      for (int64_t i = 0; i < 16; ++i) {
        const auto half = [&](int64_t row) HWY_ATTR {
          const hn::Full256<uint16_t> d16;
          return row < rows ? hn::Load(d16, reinterpret_cast<const uint16_t*>(from + row * ld) + j)
                            : hn::Zero(d16);
        };
        const int64_t row = r + 2 * i;
        hn::Store(pairs_of(half(row), half(row + 1)), hn::Full512<Pair>(), tile + 16 * i);
      }
      transpose_tile(tile, 16, to + j * ldt, ldt);
    }
}

// rows (queries, d) of pairs along d = transpose of columns (d, queries), each query times its
// factor. All are filled up to whole tiles.
HWY_INLINE void to_rows(int64_t queries, int64_t d, const float* columns, int64_t ld,
                        const float* factors, Pair* rows) {
  alignas(64) Pair tile[16 * 16];
  const hn::Full512<float> tag;
  const int64_t row_ld = whole_vectors<Pair>(elements<Pair>(d));
  for (int64_t q = 0; q < queries; q += 16) {
    const auto factor = hn::Load(tag, factors + q);
    for (int64_t j = 0; j < d; j += 32) {
      for (int64_t i = 0; i < 16; ++i) {
        const auto column = [&](int64_t c) HWY_ATTR {
          return c < d ? hn::Mul(hn::Load(tag, columns + c * ld + q), factor) : hn::Zero(tag);
        };
        const int64_t c = j + 2 * i;
        hn::Store(pairs_of(column(c), column(c + 1)), hn::Full512<Pair>(), tile + 16 * i);
      }
      transpose_tile(tile, 16, rows + q * row_ld + j / 2, row_ld);
    }
  }
}

HWY_INLINE void copy_row(int64_t d, const Pair* from, bf16* to) {
  const hn::Full512<uint16_t> tag;
  for (int64_t i = 0; i < d; i += 32)
    hn::BlendedStore(hn::Load(tag, reinterpret_cast<const uint16_t*>(from) + i),
                     hn::FirstN(tag, size_t(d - i)), tag, &to->bits + i);
}

}  // namespace sg::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif

#endif
