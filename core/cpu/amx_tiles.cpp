#include "core/cpu/amx_tiles.h"

#include <algorithm>
#include <type_traits>

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
    transpose(pairs, kRowBytes, to, kRowBytes);
    transpose(pairs + kTileSize, kRowBytes, to + kTileSize, kRowBytes);
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
      transpose(from, b.stride * int64_t(sizeof(bf16)), to, kRowBytes);
    } else {
      alignas(64) bf16 rows[kTileSize];
      copy(from, b.stride, columns - first, terms, rows);
      transpose(rows, kRowBytes, to, kRowBytes);
    }
  }
}

void multiply(const LeftPanel& left, const bf16* right, int64_t steps, float* sums,
              bool accumulate) {
  constexpr int64_t kElement = sizeof(bf16), kSum = sizeof(float);
  const TileRows<const std::byte> b{reinterpret_cast<const std::byte*>(right), kRowBytes,
                                    kStepSize * kElement, kTileSize * kElement};
  const TileRows<std::byte> c{reinterpret_cast<std::byte*>(sums), kSide * kSum,
                              kHalf * kSide * kSum, kHalf * kSum};
  if (accumulate)
    multiply<2, 2, true>(steps, left, b, c);
  else
    multiply<2, 2, false>(steps, left, b, c);
}

template <class C>
void store_block(const float* sums, int64_t rows, int64_t columns, C* c, int64_t stride,
                 bool accumulate, const bf16* bias, bool streamed) {
  store_rows(sums, rows, columns, c, stride, accumulate, bias, streamed);
}
template void store_block(const float*, int64_t, int64_t, bf16*, int64_t, bool, const bf16*, bool);
template void store_block(const float*, int64_t, int64_t, float*, int64_t, bool, const bf16*, bool);

}  // namespace sg::amx
