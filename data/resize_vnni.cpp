// For AVX3_DL, which has VNNI, and for a target that declines.
#undef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX2 | HWY_AVX3)
#define HWY_WANT_AVX3_DL
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "data/resize_vnni.cpp"
#include <hwy/foreach_target.h>
// Highway's own rule: after foreach_target.
#include <hwy/highway.h>

#include <algorithm>
#include <array>

#include "data/resize_kernels.h"
#include "data/resize_vnni.h"

#if HWY_TARGET == HWY_AVX3_DL

#include <immintrin.h>

// Highway 1.0 takes AVX3_DL for the VNNI of processors without AVX-512.
HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR_AVX3 ",avx512vbmi,avx512vnni")
// What GCC 12 says of its own header (its bug 105593).
HWY_DIAGNOSTICS(push)
HWY_DIAGNOSTICS_OFF(disable : 4701, ignored "-Wmaybe-uninitialized")
namespace sg::data {
namespace HWY_NAMESPACE {
namespace {

constexpr int kPixels = 5;    // of a vector: 15 sums of 32 bits, and one that is left out
constexpr int kSpread = 17;   // between their first taps: the fourth from there is within 64 bytes
constexpr int kMaxSteps = 4;  // of four taps

// Weights of four taps in each 32 bits: w = digits[0] + 2^8 digits[1] + 2^16 digits[2], where a
// digit is a signed byte.
struct Weights {
  alignas(64) uint32_t digits[3][16];
};

HWY_INLINE void store(__m128i v, void* out) { _mm_storeu_si128(static_cast<__m128i*>(out), v); }

constexpr int32_t kBias = 0x808080;  // a digit and 128 is a byte without sign

bool fit(const Taps& taps) {
  uint32_t all = 0;
  for (const int32_t w : taps.weights) all |= uint32_t(w + kBias);
  return all < 1 << 24 && (taps.stride + 3) / 4 <= kMaxSteps;
}

// The digits of the next of `left` weights, a digit in each 32 bits; after the last come zeros.
HWY_INLINE __m128i digits_of(const int32_t* weights, int left) {
  const __m128i w = _mm_maskz_loadu_epi32(__mmask8((1 << std::min(left, 4)) - 1), weights);
  const __m128i bias = _mm_set1_epi32(kBias);
  const __m128i bytes = _mm_xor_si128(_mm_add_epi32(w, bias), bias);
  return _mm_shuffle_epi8(bytes,
                          _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
}

// kPixels output pixels. The bytes of the four taps of a sum are neighbours in a vector.
struct Group {
  alignas(64) uint32_t places[16];  // where they are, from the first pixel on
  int first;                        // source pixel
};

struct Plan {
  int steps;
  std::vector<Group> groups;
  std::vector<Weights> weights;  // `steps` a group
};

// False where pixels are too far apart.
bool make_plan(const Taps& taps, int width, Plan& plan) {
  const int steps = plan.steps = (taps.stride + 3) / 4;
  plan.groups.resize(size_t((width + kPixels - 1) / kPixels));
  plan.weights.resize(plan.groups.size() * size_t(steps));
  Weights* w = plan.weights.data();
  int begin = 0;
  for (Group& group : plan.groups) {
    const int end = std::min(begin + kPixels, width);
    const int* first = taps.first.data();
    const auto [low, high] = std::minmax_element(first + begin, first + end);
    if (*high - *low > kSpread) return false;
    group.first = *low;
    for (int lane = 0; begin < end; ++begin, lane += 3) {
      const auto from = uint32_t(first[begin] - *low) * 3;
      for (uint32_t c = 0; c < 3; ++c)  // a channel of four pixels
        group.places[uint32_t(lane) + c] = 0x09060300 + 0x01010101 * (from + c);
      for (int step = 0; step < steps; ++step) {
        uint32_t digits[4];
        store(digits_of(taps.weights_of(begin) + step * 4, taps.stride - step * 4), digits);
        for (int k = 0; k < 3; ++k) std::fill_n(w[step].digits[k] + lane, 3, digits[k]);
      }
    }
    w += steps;
  }
  return true;
}

template <int kSteps>
HWY_INLINE __m512i add_digit(__m512i sum, const Weights* w, int digit, __m512i p0, __m512i p1,
                             __m512i p2, __m512i p3) {
  sum = _mm512_dpbusd_epi32(sum, p0, _mm512_load_si512(w[0].digits[digit]));
  if (kSteps > 1) sum = _mm512_dpbusd_epi32(sum, p1, _mm512_load_si512(w[1].digits[digit]));
  if (kSteps > 2) sum = _mm512_dpbusd_epi32(sum, p2, _mm512_load_si512(w[2].digits[digit]));
  if (kSteps > 3) sum = _mm512_dpbusd_epi32(sum, p3, _mm512_load_si512(w[3].digits[digit]));
  return sum;
}

// Rounded sums over the first kSteps of p0 to p3, not clamped yet.
template <int kSteps>
HWY_INLINE __m512i weigh(const Weights* w, __m512i p0, __m512i p1, __m512i p2, __m512i p3) {
  const __m512i half = _mm512_set1_epi32(1 << (kFractionBits - 1) >> 16);
  __m512i sum = add_digit<kSteps>(half, w, 2, p0, p1, p2, p3);
  sum = add_digit<kSteps>(_mm512_slli_epi32(sum, 8), w, 1, p0, p1, p2, p3);
  sum = add_digit<kSteps>(_mm512_slli_epi32(sum, 8), w, 0, p0, p1, p2, p3);
  return _mm512_srai_epi32(sum, kFractionBits);
}

// In each block of 128 bits the bytes of a, then of b, c and d.
HWY_INLINE __m512i to_bytes(__m512i a, __m512i b, __m512i c, __m512i d) {
  return _mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
}

// The pixels of four taps. Reads 64 bytes.
HWY_INLINE __m512i taps_at(const uint8_t* in, int step, __m512i places) {
  return _mm512_permutexvar_epi8(places, _mm512_loadu_si512(in + step * 12));
}

template <int kSteps>
HWY_INLINE __m512i make_group(const uint8_t* in, __m512i places, const Weights* w) {
  const __m512i p0 = taps_at(in, 0, places);
  const __m512i p1 = kSteps > 1 ? taps_at(in, 1, places) : p0;
  const __m512i p2 = kSteps > 2 ? taps_at(in, 2, places) : p0;
  const __m512i p3 = kSteps > 3 ? taps_at(in, 3, places) : p0;
  return weigh<kSteps>(w, p0, p1, p2, p3);
}

template <int kSteps>
void resize_four(const Plan& plan, const uint8_t* const* from, uint8_t* const* to) {
  // Of 32 bits of row r at 4 k + r: those of a row side by side.
  const __m512i by_row = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const Weights* w = plan.weights.data();
  size_t at = 0;
  for (const Group& group : plan.groups) {
    const __m512i places = _mm512_load_si512(group.places);
    const size_t first = size_t(group.first) * 3;
    const __m512i row0 = make_group<kSteps>(from[0] + first, places, w);
    const __m512i row1 = make_group<kSteps>(from[1] + first, places, w);
    const __m512i row2 = make_group<kSteps>(from[2] + first, places, w);
    const __m512i row3 = make_group<kSteps>(from[3] + first, places, w);
    const __m512i pixels = _mm512_permutexvar_epi32(by_row, to_bytes(row0, row1, row2, row3));
    store(_mm512_castsi512_si128(pixels), to[0] + at);
    store(_mm512_extracti32x4_epi32(pixels, 1), to[1] + at);
    store(_mm512_extracti32x4_epi32(pixels, 2), to[2] + at);
    store(_mm512_extracti32x4_epi32(pixels, 3), to[3] + at);
    w += kSteps, at += kPixels * 3;
  }
}

// 64 columns of four rows, the bytes of a column side by side: of each 16 columns the first four in
// v0, the next in v1 and so on.
struct Columns {
  __m512i v0, v1, v2, v3;
};
HWY_INLINE Columns columns_at(const uint8_t* const* rows, size_t at) {
  const __m512i a = _mm512_loadu_si512(rows[0] + at), b = _mm512_loadu_si512(rows[1] + at);
  const __m512i c = _mm512_loadu_si512(rows[2] + at), d = _mm512_loadu_si512(rows[3] + at);
  const __m512i ab = _mm512_unpacklo_epi8(a, b), cd = _mm512_unpacklo_epi8(c, d);
  const __m512i ab2 = _mm512_unpackhi_epi8(a, b), cd2 = _mm512_unpackhi_epi8(c, d);
  return {_mm512_unpacklo_epi16(ab, cd), _mm512_unpackhi_epi16(ab, cd),
          _mm512_unpacklo_epi16(ab2, cd2), _mm512_unpackhi_epi16(ab2, cd2)};
}

template <int kSteps>
void blend(const uint8_t* const* rows, const Weights* w, size_t bytes, uint8_t* out) {
  for (size_t begin = 0; begin < bytes; begin += 64) {
    const size_t at = std::min(begin, bytes - 64);  // where fewer are left, some are made again
    const Columns a = columns_at(rows, at);
    const Columns b = kSteps > 1 ? columns_at(rows + 4, at) : a;
    const Columns c = kSteps > 2 ? columns_at(rows + 8, at) : a;
    const Columns d = kSteps > 3 ? columns_at(rows + 12, at) : a;
    const __m512i v0 = weigh<kSteps>(w, a.v0, b.v0, c.v0, d.v0);
    const __m512i v1 = weigh<kSteps>(w, a.v1, b.v1, c.v1, d.v1);
    const __m512i v2 = weigh<kSteps>(w, a.v2, b.v2, c.v2, d.v2);
    const __m512i v3 = weigh<kSteps>(w, a.v3, b.v3, c.v3, d.v3);
    _mm512_storeu_si512(out + at, to_bytes(v0, v1, v2, v3));
  }
}

constexpr std::array kResizeFour = {resize_four<1>, resize_four<2>, resize_four<3>, resize_four<4>};
constexpr std::array kBlend = {blend<1>, blend<2>, blend<3>, blend<4>};
static_assert(kResizeFour.size() == kMaxSteps && kBlend.size() == kMaxSteps);

}  // namespace

bool resize_vnni(const uint8_t* const* in, int in_rows, const Taps& columns, const Taps& rows,
                 int width, int height, uint8_t* out) {
  const size_t bytes = size_t(width) * 3, pitch = bytes + kRowSlack;
  Plan plan;
  if (bytes < 64 || !fit(columns) || !fit(rows) || !make_plan(columns, width, plan)) return false;
  // The last rows of the horizontal pass: those that are still needed and the next four.
  constexpr int kKept = 32;
  static_assert(kKept >= kMaxSteps * 4 + 4);
  std::vector<uint8_t> kept(kKept * pitch);
  const auto kept_row = [&](int row) { return kept.data() + size_t(row % kKept) * pitch; };
  int made = 0;
  for (int y = 0; y < height; ++y, out += bytes) {
    const int first = rows.first[size_t(y)], count = rows.count[size_t(y)];
    for (; made < first + count; made += 4) {
      const uint8_t* from[4];
      uint8_t* to[4];
      for (int k = 0; k < 4; ++k)  // where fewer are left, the last one is made again
        from[k] = in[std::min(made + k, in_rows - 1)], to[k] = kept_row(made + k);
      kResizeFour[size_t(plan.steps - 1)](plan, from, to);
    }
    const uint8_t* taps[kMaxSteps * 4];
    Weights weights[kMaxSteps];
    const int steps = (count + 3) / 4;
    for (int t = 0; t < steps * 4; ++t) taps[t] = kept_row(first + std::min(t, count - 1));
    for (int step = 0; step < steps; ++step) {
      const __m128i digits = digits_of(rows.weights_of(y) + step * 4, count - step * 4);
      for (int k = 0; k < 3; ++k)
        _mm512_store_si512(
            weights[step].digits[k],
            _mm512_permutexvar_epi32(_mm512_set1_epi32(k), _mm512_castsi128_si512(digits)));
    }
    kBlend[size_t(steps - 1)](taps, weights, bytes, out);
  }
  return true;
}

}  // namespace HWY_NAMESPACE
}  // namespace sg::data
HWY_DIAGNOSTICS(pop)
HWY_POP_ATTRIBUTES

#else

namespace sg::data {
namespace HWY_NAMESPACE {

bool resize_vnni(const uint8_t* const*, int, const Taps&, const Taps&, int, int, uint8_t*) {
  return false;
}

}  // namespace HWY_NAMESPACE
}  // namespace sg::data

#endif

#if HWY_ONCE
namespace sg::data {

HWY_EXPORT(resize_vnni);

bool resize_vnni(const uint8_t* const* in, int in_rows, const Taps& columns, const Taps& rows,
                 int width, int height, uint8_t* out) {
  return HWY_DYNAMIC_DISPATCH(resize_vnni)(in, in_rows, columns, rows, width, height, out);
}

}  // namespace sg::data
#endif
