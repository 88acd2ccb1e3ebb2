#include "core/cpu/amx_tiles.h"

#include <algorithm>
#include <type_traits>

#include "core/cpu/amx.h"

// GCC 12 warns of what its intrinsics leave undefined on purpose.
#pragma GCC diagnostic ignored "-Wuninitialized"

// Processors that have AMX have these too.
#define SG_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))

namespace sg::amx {
namespace {

constexpr int64_t kTileSize = kStepSize / 2, kHalf = kSide / 2;

SG_AVX512 inline __mmask32 first(int64_t count) {
  return count >= 32 ? ~__mmask32{0} : (__mmask32{1} << count) - 1;
}

// A tile of `rows` rows of `columns` elements, and zeros.
SG_AVX512 void copy(const bf16* from, int64_t stride, int64_t rows, int64_t columns, bf16* to) {
  const __mmask32 mask = first(columns);
  for (int64_t i = 0; i < kRows; ++i)
    _mm512_store_si512(to + i * kTerms, i < rows ? _mm512_maskz_loadu_epi16(mask, from + i * stride)
                                                 : _mm512_setzero_si512());
}

// Two tiles of 16 columns each: pairs of rows, in which the values of a column lie side by side.
SG_AVX512 void interleave(const bf16* from, int64_t stride, int64_t rows, int64_t columns,
                          bf16* to) {
  alignas(64) static constexpr uint16_t kLow[32] = {0,  32, 1,  33, 2,  34, 3,  35, 4,  36, 5,
                                                    37, 6,  38, 7,  39, 8,  40, 9,  41, 10, 42,
                                                    11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
  const __m512i low = _mm512_load_si512(kLow), high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
  const __mmask32 mask = first(columns);
  for (int64_t i = 0; i < kTerms; i += 2) {
    __m512i a = _mm512_setzero_si512(), b = a;
    if (i < rows) a = _mm512_maskz_loadu_epi16(mask, from + i * stride);
    if (i + 1 < rows) b = _mm512_maskz_loadu_epi16(mask, from + (i + 1) * stride);
    _mm512_store_si512(to + i * kHalf, _mm512_permutex2var_epi16(a, low, b));
    _mm512_store_si512(to + kTileSize + i * kHalf, _mm512_permutex2var_epi16(a, high, b));
  }
}

// Quarters of rows 0, 4, 8 and 12: what permutations of whole registers would do, but by loads.
SG_AVX512 inline __m512i quarters(const bf16* from, int64_t stride) {
  const auto quarter = [=](int64_t row) {
    return reinterpret_cast<const __m128i*>(from + row * stride);
  };
  __m512i v = _mm512_castsi128_si512(_mm_loadu_si128(quarter(0)));
  v = _mm512_mask_broadcast_i32x4(v, 0x00f0, _mm_loadu_si128(quarter(4)));
  v = _mm512_mask_broadcast_i32x4(v, 0x0f00, _mm_loadu_si128(quarter(8)));
  return _mm512_mask_broadcast_i32x4(v, 0xf000, _mm_loadu_si128(quarter(12)));
}

// The transpose of a tile of pairs.
SG_AVX512 void transpose(const bf16* from, int64_t stride, bf16* to) {
  for (int64_t column = 0; column < kTerms; column += 8) {
    const bf16* const row = from + column;
    const __m512i a = quarters(row, stride), b = quarters(row + stride, stride),
                  c = quarters(row + 2 * stride, stride), d = quarters(row + 3 * stride, stride);
    const __m512i ab_low = _mm512_unpacklo_epi32(a, b), ab_high = _mm512_unpackhi_epi32(a, b),
                  cd_low = _mm512_unpacklo_epi32(c, d), cd_high = _mm512_unpackhi_epi32(c, d);
    bf16* const at = to + column / 2 * kTerms;
    _mm512_store_si512(at, _mm512_unpacklo_epi64(ab_low, cd_low));
    _mm512_store_si512(at + kTerms, _mm512_unpackhi_epi64(ab_low, cd_low));
    _mm512_store_si512(at + 2 * kTerms, _mm512_unpacklo_epi64(ab_high, cd_high));
    _mm512_store_si512(at + 3 * kTerms, _mm512_unpackhi_epi64(ab_high, cd_high));
  }
}

// Elements of c as float.
SG_AVX512 inline __m512 widened(const bf16* from, __mmask16 mask) {
  const __m512i bits = _mm512_maskz_cvtepu16_epi32(mask, _mm256_maskz_loadu_epi16(mask, from));
  return _mm512_castsi512_ps(_mm512_maskz_slli_epi32(mask, bits, 16));
}
SG_AVX512 inline __m512 widened(const float* from, __mmask16 mask) {
  return _mm512_maskz_loadu_ps(mask, from);
}

template <class C>
SG_AVX512 void store_rows(const float* sums, int64_t rows, int64_t columns, C* c, int64_t stride,
                          bool accumulate, const bf16* bias, bool streamed) {
  const __mmask32 mask = first(columns);
  streamed = streamed && columns == kSide && uintptr_t(c) % 64 == 0 && stride % kSide == 0;
  const auto low = __mmask16(mask), high = __mmask16(mask >> 16);
  __m512 bias_low = _mm512_setzero_ps(), bias_high = bias_low;
  if (bias) bias_low = widened(bias, low), bias_high = widened(bias + kHalf, high);
  for (int64_t i = 0; i < rows; ++i, c += stride) {
    __m512 v0 = _mm512_add_ps(_mm512_load_ps(sums + i * kSide), bias_low);
    __m512 v1 = _mm512_add_ps(_mm512_load_ps(sums + i * kSide + kHalf), bias_high);
    if (accumulate) {
      v0 = _mm512_add_ps(v0, widened(c, low));
      v1 = _mm512_add_ps(v1, widened(c + kHalf, high));
    }
    if constexpr (std::is_same_v<C, bf16>) {
      // Rounds to nearest, ties to even; a NaN stays one.
      const auto rounded = (__m512i)_mm512_cvtne2ps_pbh(v1, v0);
      if (streamed)
        _mm512_stream_si512(reinterpret_cast<__m512i*>(c), rounded);
      else
        _mm512_mask_storeu_epi16(c, mask, rounded);
    } else {
      _mm512_mask_storeu_ps(c, low, v0);
      _mm512_mask_storeu_ps(c + kHalf, high, v1);
    }
  }
}
}  // namespace

void pack_left(GemmOperand<bf16> a, int64_t rows, int64_t terms, bf16* to) {
  if (a.transposed) {
    alignas(64) bf16 pairs[kStepSize];
    interleave(a.data, a.stride, terms, rows, pairs);
    transpose(pairs, kTerms, to);
    transpose(pairs + kTileSize, kTerms, to + kTileSize);
  } else {
    copy(a.data, a.stride, rows, terms, to);
    copy(a.data + kHalf * a.stride, a.stride, rows - kHalf, terms, to + kTileSize);
  }
}

void pack_right(GemmOperand<bf16> b, int64_t columns, int64_t terms, bf16* to) {
  if (!b.transposed) return interleave(b.data, b.stride, terms, columns, to);
  for (int64_t first = 0; first < kSide; first += kHalf, to += kTileSize) {
    const bf16* const from = b.data + first * b.stride;
    if (columns >= first + kHalf && terms == kTerms) {
      transpose(from, b.stride, to);
    } else {
      alignas(64) bf16 rows[kTileSize];
      copy(from, b.stride, columns - first, terms, rows);
      transpose(rows, kTerms, to);
    }
  }
}

void multiply(const LeftPanel& left, const bf16* right, int64_t steps, float* sums,
              bool accumulate) {
  constexpr int64_t kSumBytes = kSide * sizeof(float);
  float* const lower = sums + kHalf * kSide;
  if (accumulate) {
    load<0>(sums, kSumBytes), load<1>(sums + kHalf, kSumBytes);
    load<2>(lower, kSumBytes), load<3>(lower + kHalf, kSumBytes);
  } else {
    zero<0>(), zero<1>(), zero<2>(), zero<3>();
  }
  const int64_t row_bytes = left.row * int64_t(sizeof(bf16));
  const bf16* a = left.data;
  for (int64_t s = 0; s < steps; ++s, a += left.step, right += kStepSize) {
    load<6>(right, kRowBytes), load<4>(a, row_bytes);
    multiply_add<0, 4, 6>();
    load<7>(right + kTileSize, kRowBytes);
    multiply_add<1, 4, 7>();
    load<5>(a + left.half, row_bytes);
    multiply_add<2, 5, 6>();
    multiply_add<3, 5, 7>();
  }
  store<0>(sums, kSumBytes), store<1>(sums + kHalf, kSumBytes);
  store<2>(lower, kSumBytes), store<3>(lower + kHalf, kSumBytes);
}

template <class C>
void store_block(const float* sums, int64_t rows, int64_t columns, C* c, int64_t stride,
                 bool accumulate, const bf16* bias, bool streamed) {
  store_rows(sums, rows, columns, c, stride, accumulate, bias, streamed);
}
template void store_block(const float*, int64_t, int64_t, bf16*, int64_t, bool, const bf16*, bool);
template void store_block(const float*, int64_t, int64_t, float*, int64_t, bool, const bf16*, bool);

}  // namespace sg::amx
