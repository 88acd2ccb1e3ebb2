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

// Highway 1.0 has the VNNI of processors without AVX-512 here.
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

// Weights of four taps. They have 22 bits: as signed bytes digits[0] + 2^8 digits[1] +
// 2^16 digits[2].
struct Weights {
  alignas(64) int8_t digits[3][64];
};

// kPixels output pixels. The bytes of the four taps of a sum are neighbours in a vector.
struct Group {
  alignas(64) uint8_t places[64];  // where they are, from the first pixel on
  int first;                       // source pixel
};

struct Plan {
  int steps;
  std::vector<Group> groups;
  std::vector<Weights> weights;  // `steps` a group

  bool make(const Taps& taps, int width);
};

bool Plan::make(const Taps& taps, int width) {
  steps = (taps.stride + 3) / 4;
  if (steps > kMaxSteps) return false;
  groups.assign(size_t((width + kPixels - 1) / kPixels), {});
  weights.assign(groups.size() * size_t(steps), {});
  Weights* next = weights.data();
  for (size_t g = 0; g < groups.size(); ++g, next += steps) {
    const int begin = int(g) * kPixels, end = std::min(begin + kPixels, width);
    const int* first = taps.first.data();
    const auto [low, high] = std::minmax_element(first + begin, first + end);
    if (*high - *low > kSpread) return false;
    groups[g].first = *low;
    for (int i = begin; i < end; ++i)
      for (int t = 0; t < taps.stride; ++t) {
        const int w = taps.weights_of(i)[t];
        const int d0 = int8_t(w), d1 = int8_t((w - d0) >> 8), d2 = (w - d0 - d1 * 256) >> 16;
        if (d2 != int8_t(d2)) return false;
        for (int c = 0; c < 3; ++c) {
          const int at = ((i - begin) * 3 + c) * 4 + t % 4;
          groups[g].places[at] = uint8_t((first[i] - *low + t % 4) * 3 + c);
          auto& digits = next[t / 4].digits;
          digits[0][at] = int8_t(d0), digits[1][at] = int8_t(d1), digits[2][at] = int8_t(d2);
        }
      }
  }
  return true;
}

// The pixels of four taps. Reads 64 bytes.
HWY_INLINE __m512i taps_at(const uint8_t* in, int step, __m512i places) {
  return _mm512_permutexvar_epi8(places, _mm512_loadu_si512(in + step * 12));
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

// The bytes of a group in 32 bits each, not clamped yet.
template <int kSteps>
HWY_INLINE __m512i make_group(const uint8_t* in, __m512i places, const Weights* w) {
  const __m512i p0 = taps_at(in, 0, places);
  const __m512i p1 = kSteps > 1 ? taps_at(in, 1, places) : p0;
  const __m512i p2 = kSteps > 2 ? taps_at(in, 2, places) : p0;
  const __m512i p3 = kSteps > 3 ? taps_at(in, 3, places) : p0;
  __m512i sum = add_digit<kSteps>(_mm512_setzero_si512(), w, 2, p0, p1, p2, p3);
  sum = add_digit<kSteps>(_mm512_slli_epi32(sum, 8), w, 1, p0, p1, p2, p3);
  const __m512i half = _mm512_set1_epi32(1 << (kFractionBits - 1));
  sum = add_digit<kSteps>(_mm512_add_epi32(_mm512_slli_epi32(sum, 8), half), w, 0, p0, p1, p2, p3);
  return _mm512_srai_epi32(sum, kFractionBits);
}

HWY_INLINE void store(__m128i v, uint8_t* out) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), v);
}

// Four rows at a time.
template <int kSteps>
void resize_by(const Plan& plan, const uint8_t* const* in, int rows, uint8_t* out, size_t pitch) {
  // Of 32 bits of row r at 4 k + r: those of a row side by side.
  const __m512i by_row = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  for (int y = 0; y < rows; y += 4) {
    const uint8_t* from[4];
    uint8_t* to[4];
    for (int k = 0; k < 4; ++k) {  // where fewer are left, the last one is made again
      const int row = std::min(y + k, rows - 1);
      from[k] = in[row], to[k] = out + size_t(row) * pitch;
    }
    const Weights* w = plan.weights.data();
    size_t at = 0;
    for (const Group& group : plan.groups) {
      const __m512i places = _mm512_load_si512(group.places);
      const size_t first = size_t(group.first) * 3;
      const __m512i row0 = make_group<kSteps>(from[0] + first, places, w);
      const __m512i row1 = make_group<kSteps>(from[1] + first, places, w);
      const __m512i row2 = make_group<kSteps>(from[2] + first, places, w);
      const __m512i row3 = make_group<kSteps>(from[3] + first, places, w);
      const __m512i bytes =
          _mm512_packus_epi16(_mm512_packs_epi32(row0, row1), _mm512_packs_epi32(row2, row3));
      const __m512i pixels = _mm512_permutexvar_epi32(by_row, bytes);
      store(_mm512_castsi512_si128(pixels), to[0] + at);
      store(_mm512_extracti32x4_epi32(pixels, 1), to[1] + at);
      store(_mm512_extracti32x4_epi32(pixels, 2), to[2] + at);
      store(_mm512_extracti32x4_epi32(pixels, 3), to[3] + at);
      w += kSteps, at += kPixels * 3;
    }
  }
}

}  // namespace

bool resize_rows_vnni(const uint8_t* const* in, int rows, const Taps& taps, int width, uint8_t* out,
                      size_t pitch) {
  Plan plan;
  if (!plan.make(taps, width)) return false;
  constexpr std::array by_steps = {resize_by<1>, resize_by<2>, resize_by<3>, resize_by<4>};
  static_assert(by_steps.size() == kMaxSteps);
  by_steps[size_t(plan.steps - 1)](plan, in, rows, out, pitch);
  return true;
}

}  // namespace HWY_NAMESPACE
}  // namespace sg::data
HWY_DIAGNOSTICS(pop)
HWY_POP_ATTRIBUTES

#else

namespace sg::data {
namespace HWY_NAMESPACE {

bool resize_rows_vnni(const uint8_t* const*, int, const Taps&, int, uint8_t*, size_t) {
  return false;
}

}  // namespace HWY_NAMESPACE
}  // namespace sg::data

#endif

#if HWY_ONCE
namespace sg::data {

HWY_EXPORT(resize_rows_vnni);

bool resize_rows_vnni(const uint8_t* const* in, int rows, const Taps& taps, int width, uint8_t* out,
                      size_t pitch) {
  return HWY_DYNAMIC_DISPATCH(resize_rows_vnni)(in, rows, taps, width, out, pitch);
}

}  // namespace sg::data
#endif
