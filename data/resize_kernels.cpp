#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "data/resize_kernels.cpp"
#include <hwy/foreach_target.h>
// Highway's own rule: after foreach_target.
#include <hwy/highway.h>

#include <algorithm>
#include <cstring>

#include "data/resize_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace sg::data {
namespace HWY_NAMESPACE {

constexpr int32_t kHalf = 1 << (kFractionBits - 1);

#if HWY_TARGET == HWY_SCALAR || HWY_HAVE_SCALABLE

uint8_t rounded(int32_t sum) { return uint8_t(std::clamp(sum >> kFractionBits, 0, 255)); }

void resize_rows(const uint8_t* const* in, int rows, const int* first, const int* count,
                 const int32_t* lanes, int stride, int width, uint8_t* out, size_t pitch) {
  for (int y = 0; y < rows; ++y, out += pitch)
    for (int i = 0; i < width; ++i)
      for (int c = 0; c < 3; ++c) {
        const uint8_t* p = in[y] + size_t(first[i]) * 3 + c;
        const int32_t* w = lanes + size_t(i) * size_t(stride) * 4;
        int32_t sum = kHalf;
        for (int t = 0; t < count[i]; ++t) sum += p[t * 3] * w[t * 4];
        out[i * 3 + c] = rounded(sum);
      }
}

void blend_rows(const uint8_t* rows, size_t row_stride, const int32_t* weights, int count,
                size_t bytes, uint8_t* out) {
  for (size_t j = 0; j < bytes; ++j) {
    int32_t sum = kHalf;
    for (int t = 0; t < count; ++t) sum += rows[size_t(t) * row_stride + j] * weights[t];
    out[j] = rounded(sum);
  }
}

#else

namespace hn = hwy::HWY_NAMESPACE;

// At most 16 lanes: four pixels, one in each 128-bit block.
using I32 = hn::CappedTag<int32_t, 16>;
using U8 = hn::Rebind<uint8_t, I32>;
constexpr int kPixels = int(hn::MaxLanes(I32())) / 4;

// Loads kPixels consecutive RGB pixels as (r, g, b, ?) in int32.
template <class D>
HWY_INLINE hn::Vec<D> load_pixels(D d, const uint8_t* p) {
  if constexpr (kPixels == 1) {
    return hn::PromoteTo(d, hn::LoadU(hn::Rebind<uint8_t, D>(), p));
  } else {
    alignas(16) static constexpr uint8_t kSpread[16] = {0, 1, 2, 2, 3, 4,  5,  5,
                                                        6, 7, 8, 8, 9, 10, 11, 11};
    const hn::FixedTag<uint8_t, 16> whole;
    const auto spread = hn::TableLookupBytes(hn::LoadU(whole, p), hn::Load(whole, kSpread));
    if constexpr (kPixels == 4)
      return hn::PromoteTo(d, spread);
    else
      return hn::PromoteTo(d, hn::LowerHalf(hn::Half<decltype(whole)>(), spread));
  }
}

// The sums of a pixel's blocks, as bytes; written out four bytes a pixel.
HWY_INLINE void store_sums(hn::Vec<I32> sum, uint8_t* out) {
  const U8 bytes;
  const auto total = hn::Add(sum, hn::Set(I32(), kHalf));
  hn::StoreU(hn::DemoteTo(bytes, hn::ShiftRight<kFractionBits>(total)), bytes, out);
}

// a0 + a1, b0 + b1, a2 + a3, b2 + b3
HWY_INLINE hn::Vec<I32> add_pairs(hn::Vec<I32> a, hn::Vec<I32> b) {
  return hn::Add(hn::OddEvenBlocks(b, a), hn::SwapAdjacentBlocks(hn::OddEvenBlocks(a, b)));
}

// A pixel of each of four rows: the blocks of a sum are added up.
HWY_INLINE void store_four(hn::Vec<I32> a, hn::Vec<I32> b, hn::Vec<I32> c, hn::Vec<I32> d,
                           uint8_t* out) {
  if constexpr (kPixels == 1) {
    store_sums(a, out), store_sums(b, out + 4), store_sums(c, out + 8), store_sums(d, out + 12);
  } else if constexpr (kPixels == 2) {
    store_sums(add_pairs(a, b), out), store_sums(add_pairs(c, d), out + 8);
  } else {
    const auto low = add_pairs(a, b), high = add_pairs(c, d);
    const I32 tag;
    store_sums(hn::Add(hn::ConcatLowerLower(tag, high, low), hn::ConcatUpperUpper(tag, high, low)),
               out);
  }
}

// Four rows at a time share the loads of the weights and the branches; where fewer are left, the
// last one is made again. Each is written out by name, as compilers keep no array in registers.
void resize_rows(const uint8_t* const* in, int rows, const int* first, const int* count,
                 const int32_t* lanes, int stride, int width, uint8_t* out, size_t pitch) {
  const I32 d;
  for (int y = 0; y < rows; y += 4) {
    const int y1 = std::min(y + 1, rows - 1), y2 = std::min(y + 2, rows - 1);
    const int y3 = std::min(y + 3, rows - 1);
    const uint8_t *in0 = in[y], *in1 = in[y1], *in2 = in[y2], *in3 = in[y3];
    uint8_t *out0 = out + size_t(y) * pitch, *out1 = out + size_t(y1) * pitch;
    uint8_t *out2 = out + size_t(y2) * pitch, *out3 = out + size_t(y3) * pitch;
    for (int i = 0; i < width; ++i) {
      const int32_t* w = lanes + size_t(i) * size_t(stride) * 4;
      auto sum0 = hn::Zero(d), sum1 = sum0, sum2 = sum0, sum3 = sum0;
      const int begin = first[i] * 3, end = begin + count[i] * 3;
      for (int at = begin; at < end; at += 3 * kPixels, w += 4 * kPixels) {
        const auto weights = hn::LoadU(d, w);
        sum0 = hn::Add(sum0, hn::Mul(load_pixels(d, in0 + at), weights));
        sum1 = hn::Add(sum1, hn::Mul(load_pixels(d, in1 + at), weights));
        sum2 = hn::Add(sum2, hn::Mul(load_pixels(d, in2 + at), weights));
        sum3 = hn::Add(sum3, hn::Mul(load_pixels(d, in3 + at), weights));
      }
      uint8_t pixels[16];
      store_four(sum0, sum1, sum2, sum3, pixels);
      // The fourth byte is overwritten by the next pixel.
      std::memcpy(out0 + i * 3, pixels, 4), std::memcpy(out1 + i * 3, pixels + 4, 4);
      std::memcpy(out2 + i * 3, pixels + 8, 4), std::memcpy(out3 + i * 3, pixels + 12, 4);
    }
  }
}

// Bytes [0, kVectors * lanes) of the sum; several vectors at a time hide the multiplier's latency.
template <int kVectors>
HWY_INLINE void blend_columns(const uint8_t* rows, size_t row_stride, const int32_t* weights,
                              int count, uint8_t* out) {
  const I32 d;
  const U8 bytes;
  const size_t n = hn::Lanes(d);
  hn::Vec<I32> sum[kVectors];
  for (auto& s : sum) s = hn::Set(d, kHalf);
  for (int t = 0; t < count; ++t, rows += row_stride) {
    const auto w = hn::Set(d, weights[t]);
    for (size_t v = 0; v < kVectors; ++v)
      sum[v] = hn::Add(sum[v], hn::Mul(hn::PromoteTo(d, hn::LoadU(bytes, rows + v * n)), w));
  }
  for (size_t v = 0; v < kVectors; ++v)
    hn::StoreU(hn::DemoteTo(bytes, hn::ShiftRight<kFractionBits>(sum[v])), bytes, out + v * n);
}

void blend_rows(const uint8_t* rows, size_t row_stride, const int32_t* weights, int count,
                size_t bytes, uint8_t* out) {
  constexpr int kVectors = 4;
  const size_t n = hn::Lanes(I32()), wide = n * kVectors;
  size_t j = 0;
  for (; j + wide <= bytes; j += wide)
    blend_columns<kVectors>(rows + j, row_stride, weights, count, out + j);
  for (; j + n <= bytes; j += n) blend_columns<1>(rows + j, row_stride, weights, count, out + j);
  if (j < bytes) {  // nothing may be written past the end: the next bytes are another thread's
    uint8_t tail[hn::MaxLanes(I32())];
    blend_columns<1>(rows + j, row_stride, weights, count, tail);
    std::memcpy(out + j, tail, bytes - j);
  }
}

#endif

}  // namespace HWY_NAMESPACE
}  // namespace sg::data
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sg::data {

HWY_EXPORT(resize_rows);
HWY_EXPORT(blend_rows);

void resize_rows(const uint8_t* const* in, int rows, const int* first, const int* count,
                 const int32_t* lanes, int stride, int width, uint8_t* out, size_t pitch) {
  HWY_DYNAMIC_DISPATCH(resize_rows)(in, rows, first, count, lanes, stride, width, out, pitch);
}

void blend_rows(const uint8_t* rows, size_t row_stride, const int32_t* weights, int count,
                size_t bytes, uint8_t* out) {
  HWY_DYNAMIC_DISPATCH(blend_rows)(rows, row_stride, weights, count, bytes, out);
}

}  // namespace sg::data
#endif
