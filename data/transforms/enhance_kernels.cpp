#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "data/transforms/enhance_kernels.cpp"
#include <hwy/foreach_target.h>
// Highway's own rule: after foreach_target.
#include <hwy/highway.h>

#include <algorithm>
#include <cstring>

#include "data/transforms/enhance_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace sg::data {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::CappedTag<float, 16>;
using I32 = hn::Rebind<int32_t, F32>;
using U8 = hn::Rebind<uint8_t, F32>;
using VI = hn::Vec<I32>;

// degenerate + factor (value - degenerate) as Pillow rounds it, and no multiply-add.
HWY_INLINE VI blend(VI degenerate, VI value, float factor) {
  const F32 f;
  const auto change = hn::Mul(hn::Set(f, factor), hn::ConvertTo(f, hn::Sub(value, degenerate)));
  const auto sum = hn::Add(hn::ConvertTo(f, degenerate), change);
  return hn::ConvertTo(I32(), hn::Min(hn::Max(sum, hn::Zero(f)), hn::Set(f, 255)));
}

HWY_INLINE VI grey(VI r, VI g, VI b) {
  const I32 i;
  const VI red = hn::Mul(r, hn::Set(i, 19595)), green = hn::Mul(g, hn::Set(i, 38470));
  const VI blue = hn::Mul(b, hn::Set(i, 7471));
  return hn::ShiftRight<16>(hn::Add(hn::Add(red, green), hn::Add(blue, hn::Set(i, 32768))));
}

HWY_INLINE void load_pixels(const uint8_t* p, VI& r, VI& g, VI& b) {
  const I32 i;
  hn::Vec<U8> r8, g8, b8;
  hn::LoadInterleaved3(U8(), p, r8, g8, b8);
  r = hn::PromoteTo(i, r8), g = hn::PromoteTo(i, g8), b = hn::PromoteTo(i, b8);
}

uint64_t sum_grey(const uint8_t* pixels, size_t count) {
  const I32 i;
  const size_t n = hn::Lanes(i);
  VI r, g, b, sum = hn::Zero(i);  // 2^31 / 255 pixels a lane: more than a row has
  size_t k = 0;
  for (; k + n <= count; k += n) {
    load_pixels(pixels + k * 3, r, g, b);
    sum = hn::Add(sum, grey(r, g, b));
  }
  if (k < count) {
    uint8_t tail[3 * hn::MaxLanes(I32())] = {};  // the grey of zeros is zero
    std::memcpy(tail, pixels + k * 3, (count - k) * 3);
    load_pixels(tail, r, g, b);
    sum = hn::Add(sum, grey(r, g, b));
  }
  HWY_ALIGN int32_t lanes[hn::MaxLanes(I32())];
  hn::Store(sum, i, lanes);
  uint64_t total = 0;
  for (size_t j = 0; j < n; ++j) total += uint64_t(lanes[j]);
  return total;
}

HWY_INLINE void saturate_block(uint8_t* p, float factor) {
  const U8 bytes;
  VI r, g, b;
  load_pixels(p, r, g, b);
  const VI degenerate = grey(r, g, b);
  hn::StoreInterleaved3(hn::DemoteTo(bytes, blend(degenerate, r, factor)),
                        hn::DemoteTo(bytes, blend(degenerate, g, factor)),
                        hn::DemoteTo(bytes, blend(degenerate, b, factor)), bytes, p);
}

void saturate_pixels(uint8_t* pixels, size_t count, float factor) {
  const size_t n = hn::Lanes(I32());
  size_t k = 0;
  for (; k + n <= count; k += n) saturate_block(pixels + k * 3, factor);
  if (k < count) {
    uint8_t tail[3 * hn::MaxLanes(I32())] = {};
    std::memcpy(tail, pixels + k * 3, (count - k) * 3);
    saturate_block(tail, factor);
    std::memcpy(pixels + k * 3, tail, (count - k) * 3);
  }
}

HWY_INLINE VI load(const uint8_t* p) { return hn::PromoteTo(I32(), hn::LoadU(U8(), p)); }

HWY_INLINE VI sum_of_three(const uint8_t* p) {
  return hn::Add(hn::Add(load(p - 3), load(p)), load(p + 3));
}

HWY_INLINE hn::Vec<U8> sharpen(const uint8_t* above, const uint8_t* row, const uint8_t* below,
                               float factor) {
  const I32 i;
  const VI value = load(row);
  // [1 1 1; 1 5 1; 1 1 1] / 13, rounded. Pillow divides in float: no sum is so near to a half that
  // it could differ. x * 20165 >> 18 is x / 13 below 10^5.
  const VI sum = hn::Add(hn::Add(sum_of_three(above), sum_of_three(row)),
                         hn::Add(sum_of_three(below), hn::ShiftLeft<2>(value)));
  const VI smooth = hn::ShiftRight<18>(hn::Mul(hn::Add(sum, hn::Set(i, 6)), hn::Set(i, 20165)));
  return hn::DemoteTo(U8(), blend(smooth, value, factor));
}

void sharpen_row(const uint8_t* above, const uint8_t* row, const uint8_t* below, size_t bytes,
                 float factor, uint8_t* out) {
  const U8 d;
  const size_t n = hn::Lanes(d);
  size_t j = 0;
  for (; j + n <= bytes; j += n)
    hn::StoreU(sharpen(above + j, row + j, below + j, factor), d, out + j);
  if (j < bytes) {
    uint8_t tail[hn::MaxLanes(U8())];
    hn::StoreU(sharpen(above + j, row + j, below + j, factor), d, tail);
    std::memcpy(out + j, tail, bytes - j);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sg::data
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sg::data {

HWY_EXPORT(sum_grey);
HWY_EXPORT(saturate_pixels);
HWY_EXPORT(sharpen_row);

uint64_t sum_grey(const uint8_t* pixels, size_t count) {
  return HWY_DYNAMIC_DISPATCH(sum_grey)(pixels, count);
}

void saturate_pixels(uint8_t* pixels, size_t count, float factor) {
  HWY_DYNAMIC_DISPATCH(saturate_pixels)(pixels, count, factor);
}

void sharpen_row(const uint8_t* above, const uint8_t* row, const uint8_t* below, size_t bytes,
                 float factor, uint8_t* out) {
  HWY_DYNAMIC_DISPATCH(sharpen_row)(above, row, below, bytes, factor, out);
}

}  // namespace sg::data
#endif
