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
        constexpr int64_t kNext = amx::kRowBytes;  // to the next tile
        amx::multiply<R, C, add>(
            k / amx::kPairs,
            {reinterpret_cast<const std::byte*>(a.data + i * a.row), 4 * a.row, 4 * kRows * a.row,
             kNext},
            {reinterpret_cast<const std::byte*>(b + j), 4 * ldb, 4 * kRows * ldb, kNext},
            {reinterpret_cast<std::byte*>(c + i * ldc + j), 4 * ldc, 4 * kRows * ldc, kNext});
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
      amx::transpose(tile, amx::kRowBytes, to + j * ldt, ldt * 4);
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
      amx::transpose(tile, amx::kRowBytes, rows + q * row_ld + j / 2, row_ld * 4);
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
