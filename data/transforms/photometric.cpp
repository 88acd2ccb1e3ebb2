#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "data/transforms/photometric.cpp"
#include <hwy/foreach_target.h>
// Highway's own rule: after foreach_target.
#include <hwy/highway.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "data/transforms/photometric.h"

HWY_BEFORE_NAMESPACE();
namespace sg::data {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using F32 = hn::CappedTag<float, 16>;
using I32 = hn::Rebind<int32_t, F32>;
using U8 = hn::Rebind<uint8_t, F32>;
using VF = hn::Vec<F32>;
using VI = hn::Vec<I32>;

struct Pixels {
  VI a, b, c;
};

HWY_INLINE Pixels load(const uint8_t* p) {
  hn::Vec<U8> a, b, c;
  hn::LoadInterleaved3(U8(), p, a, b, c);
  const I32 i;
  return {hn::PromoteTo(i, a), hn::PromoteTo(i, b), hn::PromoteTo(i, c)};
}

HWY_INLINE void store(const Pixels& v, uint8_t* p) {
  const U8 d;
  hn::StoreInterleaved3(hn::DemoteTo(d, v.a), hn::DemoteTo(d, v.b), hn::DemoteTo(d, v.c), d, p);
}

// round(numerator / x), and 0 for 0. In float it is that of the exact quotient: rounding moves it
// by numerator / x * 2^-24, and what is no half is 1 / 2x or more away from one.
HWY_INLINE VI quotient(float numerator, VI x) {
  const F32 f;
  const I32 i;
  const VI q = hn::NearestInt(hn::Div(hn::Set(f, numerator), hn::ConvertTo(f, x)));
  return hn::IfThenZeroElse(hn::Eq(x, hn::Zero(i)), q);
}

HWY_INLINE Pixels to_hsv(const Pixels& p) {
  const I32 i;
  const auto [r, g, b] = p;
  const VI v = hn::Max(r, hn::Max(g, b)), d = hn::Sub(v, hn::Min(r, hn::Min(g, b)));
  const VI of_v = quotient(255 * 4096, v);
  const VI of_d = quotient(30 * 4096, d);
  const VI half = hn::Set(i, 2048);
  const VI s = hn::ShiftRight<12>(hn::Add(hn::Mul(d, of_v), half));
  const VI from_green = hn::Add(hn::Sub(b, r), hn::ShiftLeft<1>(d));
  const VI from_blue = hn::Add(hn::Sub(r, g), hn::ShiftLeft<2>(d));
  VI h = hn::IfThenElse(hn::Eq(v, r), hn::Sub(g, b),
                        hn::IfThenElse(hn::Eq(v, g), from_green, from_blue));
  h = hn::ShiftRight<12>(hn::Add(hn::Mul(h, of_d), half));
  h = hn::Add(h, hn::IfThenElseZero(hn::Lt(h, hn::Zero(i)), hn::Set(i, 180)));
  return {h, s, v};
}

// 1 - a b, rounded once.
HWY_INLINE VF one_minus_product(VF a, VF b) {
  const F32 f;
#if HWY_NATIVE_FMA
  return hn::NegMulAdd(a, b, hn::Set(f, 1));
#else
  HWY_ALIGN float x[hn::MaxLanes(F32())], y[hn::MaxLanes(F32())];
  hn::Store(a, f, x), hn::Store(b, f, y);
  for (size_t j = 0; j < hn::Lanes(f); ++j) x[j] = std::fma(-x[j], y[j], 1.f);
  return hn::Load(f, x);
#endif
}

HWY_INLINE Pixels to_rgb(const Pixels& p) {
  const F32 f;
  const I32 i;
  VF h = hn::Mul(hn::ConvertTo(f, p.a), hn::Set(f, float(6.0 / 180)));
  const VF s = hn::Mul(hn::ConvertTo(f, p.b), hn::Set(f, float(1.0 / 255)));
  const VF v = hn::Mul(hn::ConvertTo(f, p.c), hn::Set(f, float(1.0 / 255)));
  VI k = hn::ConvertTo(i, h);  // of no negative number: its floor
  h = hn::Sub(h, hn::ConvertTo(f, k));
  k = hn::IfThenElse(hn::Lt(k, hn::Set(i, 6)), k, hn::Sub(k, hn::Set(i, 6)));
  const VF one = hn::Set(f, 1);
  const auto byte = [&](VF t) { return hn::ConvertTo(i, hn::Mul(t, hn::Set(f, 255))); };
  const VI t0 = byte(v), t1 = byte(hn::Mul(v, hn::Sub(one, s)));
  const VI t2 = byte(hn::Mul(v, one_minus_product(s, h)));
  const VI t3 = byte(hn::Mul(v, one_minus_product(s, hn::Sub(one, h))));
  const auto is = [&](int sector) { return hn::Eq(k, hn::Set(i, sector)); };
  const auto pick = [&](VI of0, VI of1, VI of2, VI of3, VI of4, VI of5) {
    VI x = hn::IfThenElse(is(4), of4, of5);
    x = hn::IfThenElse(is(3), of3, x), x = hn::IfThenElse(is(2), of2, x);
    x = hn::IfThenElse(is(1), of1, x);
    return hn::IfThenElse(is(0), of0, x);
  };
  return {pick(t0, t2, t1, t1, t3, t0), pick(t3, t0, t0, t2, t1, t1), pick(t1, t1, t3, t0, t0, t2)};
}

// H + hue of 180, for hue of 0 to 179, and S scaled.
HWY_INLINE Pixels changed(const Pixels& hsv, int hue, float saturation) {
  const F32 f;
  const I32 i;
  VI h = hn::Add(hsv.a, hn::Set(i, hue));
  h = hn::IfThenElse(hn::Lt(h, hn::Set(i, 180)), h, hn::Sub(h, hn::Set(i, 180)));
  const VF s = hn::Mul(hn::ConvertTo(f, hsv.b), hn::Set(f, saturation));
  return {h, hn::ConvertTo(i, hn::Min(hn::Max(s, hn::Zero(f)), hn::Set(f, 255))), hsv.c};
}

template <class F>
HWY_INLINE void each_block(uint8_t* pixels, size_t count, F&& f) {
  const size_t n = hn::Lanes(I32());
  size_t k = 0;
  for (; k + n <= count; k += n) store(f(load(pixels + k * 3)), pixels + k * 3);
  if (k < count) {
    uint8_t tail[3 * hn::MaxLanes(I32())] = {};
    std::memcpy(tail, pixels + k * 3, (count - k) * 3);
    store(f(load(tail)), tail);
    std::memcpy(pixels + k * 3, tail, (count - k) * 3);
  }
}

void all_to_hsv(uint8_t* pixels, size_t count) {
  each_block(pixels, count, [](const Pixels& p) HWY_ATTR { return to_hsv(p); });
}

void all_to_rgb(uint8_t* pixels, size_t count) {
  each_block(pixels, count, [](const Pixels& p) HWY_ATTR { return to_rgb(p); });
}

void change_all(uint8_t* pixels, size_t count, int hue, float saturation) {
  each_block(pixels, count,
             [&](const Pixels& p) HWY_ATTR { return to_rgb(changed(to_hsv(p), hue, saturation)); });
}

}  // namespace HWY_NAMESPACE
}  // namespace sg::data
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sg::data {
namespace {

HWY_EXPORT(all_to_hsv);
HWY_EXPORT(all_to_rgb);
HWY_EXPORT(change_all);

uint8_t scaled(uint8_t v, float factor, float add) {
  return uint8_t(std::clamp(float(v) * factor + add, 0.f, 255.f));
}

}  // namespace

void rgb_to_hsv(std::span<uint8_t> pixels) {
  HWY_DYNAMIC_DISPATCH(all_to_hsv)(pixels.data(), pixels.size() / 3);
}

void hsv_to_rgb(std::span<uint8_t> pixels) {
  HWY_DYNAMIC_DISPATCH(all_to_rgb)(pixels.data(), pixels.size() / 3);
}

void scale_bytes(std::span<uint8_t> pixels, float factor, float add) {
  std::array<uint8_t, 256> table;
  for (int v = 0; v < 256; ++v) table[size_t(v)] = scaled(uint8_t(v), factor, add);
  for (uint8_t& p : pixels) p = table[p];
}

void scale_saturation(std::span<uint8_t> pixels, float factor) {
  HWY_DYNAMIC_DISPATCH(change_all)(pixels.data(), pixels.size() / 3, 0, factor);
}

void shift_hue(std::span<uint8_t> pixels, int shift) {
  const int of_180 = (shift % 180 + 180) % 180;
  HWY_DYNAMIC_DISPATCH(change_all)(pixels.data(), pixels.size() / 3, of_180, 1);
}

Photometric draw_photometric(Random& random) {
  Photometric p;
  const auto coin = [&] { return random.bernoulli(0.5); };
  if (coin()) p.brightness = float(random.uniform(-32, 32));
  p.contrast_first = coin();
  if (coin()) p.contrast = float(random.uniform(0.5, 1.5));
  if (coin()) p.saturation = float(random.uniform(0.5, 1.5));
  if (coin()) p.hue = int(random.integer(-18, 17));
  return p;
}

void distort(std::span<uint8_t> rgb, const Photometric& p) {
  if (p.brightness) scale_bytes(rgb, 1, *p.brightness);
  if (p.contrast && p.contrast_first) scale_bytes(rgb, *p.contrast, 0);
  if (p.saturation) scale_saturation(rgb, *p.saturation);
  if (p.hue) shift_hue(rgb, *p.hue);
  if (p.contrast && !p.contrast_first) scale_bytes(rgb, *p.contrast, 0);
}

}  // namespace sg::data
#endif  // HWY_ONCE
