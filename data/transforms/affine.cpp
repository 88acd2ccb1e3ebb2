#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "data/transforms/affine.cpp"
#include <hwy/foreach_target.h>
// Highway's own rule: after foreach_target.
#include <hwy/highway.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <numbers>

#include "core/error.h"
#include "data/transforms/affine.h"

HWY_BEFORE_NAMESPACE();
namespace sg::data {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// A lane is a pixel.
using F64 = hn::CappedTag<double, 8>;
using I32 = hn::Rebind<int32_t, F64>;
using VF = hn::Vec<F64>;
using VI = hn::Vec<I32>;

HWY_INLINE VF lerp(VF a, VF b, VF t) { return hn::Add(a, hn::Mul(hn::Sub(b, a), t)); }
HWY_INLINE VF lerp(VI a, VI b, VF t) {
  const F64 d;
  return hn::Add(hn::PromoteTo(d, a), hn::Mul(hn::PromoteTo(d, hn::Sub(b, a)), t));
}

// The sums are in the order of Pillow's, for equal rounding; no multiply-adds.
HWY_INLINE VF horner(VF p1, VF p2, VF p3, VF p4, VF t) {
  const VF inner = hn::Add(p3, hn::Mul(t, p4));
  return hn::Add(p1, hn::Mul(t, hn::Add(p2, hn::Mul(t, inner))));
}
template <class V>
HWY_INLINE V third(V v1, V v2, V v3, V v4) {
  const V step = hn::Sub(v1, v2);
  return hn::Sub(hn::Add(hn::Add(step, step), v3), v4);
}
template <class V>
HWY_INLINE V fourth(V v1, V v2, V v3, V v4) {
  return hn::Add(hn::Sub(hn::Sub(v2, v1), v3), v4);
}
HWY_INLINE VF cubic(VF v1, VF v2, VF v3, VF v4, VF t) {
  return horner(v2, hn::Sub(v3, v1), third(v1, v2, v3, v4), fourth(v1, v2, v3, v4), t);
}
// For bytes: the coefficients are whole numbers, so integers compute them exactly.
HWY_INLINE VF cubic(VI v1, VI v2, VI v3, VI v4, VF t) {
  const F64 d;
  return horner(hn::PromoteTo(d, v2), hn::PromoteTo(d, hn::Sub(v3, v1)),
                hn::PromoteTo(d, third(v1, v2, v3, v4)), hn::PromoteTo(d, fourth(v1, v2, v3, v4)),
                t);
}

template <int kChannel>
HWY_INLINE VI channel(VI pixels) {
  return hn::And(hn::ShiftRight<8 * kChannel>(pixels), hn::Set(I32(), 255));
}

// Byte offsets of pixels along one direction; an index outside is that of the nearest edge.
struct Axis {
  int last;    // greatest index
  int stride;  // bytes from one index to the next

  HWY_INLINE VI offset(VI index) const {
    const I32 i;
    return hn::Mul(hn::Min(hn::Max(index, hn::Zero(i)), hn::Set(i, last)), hn::Set(i, stride));
  }
};

// One row of taps, interpolated along x (kX) or read at x.
template <bool kCubic, bool kX>
HWY_INLINE void read_row(const uint8_t* in, VI row, VI x0, VI x1, VI x2, VI x3, VF t, VF& r, VF& g,
                         VF& b) {
  const auto tap = [&](VI x) HWY_ATTR {
    return hn::GatherOffset(I32(), reinterpret_cast<const int32_t*>(in), hn::Add(row, x));
  };
  const VI p1 = tap(x1);
  if constexpr (!kX) {
    const F64 d;
    r = hn::PromoteTo(d, channel<0>(p1)), g = hn::PromoteTo(d, channel<1>(p1));
    b = hn::PromoteTo(d, channel<2>(p1));
  } else if constexpr (!kCubic) {
    const VI p2 = tap(x2);
    r = lerp(channel<0>(p1), channel<0>(p2), t);
    g = lerp(channel<1>(p1), channel<1>(p2), t);
    b = lerp(channel<2>(p1), channel<2>(p2), t);
  } else {
    const VI p0 = tap(x0), p2 = tap(x2), p3 = tap(x3);
    r = cubic(channel<0>(p0), channel<0>(p1), channel<0>(p2), channel<0>(p3), t);
    g = cubic(channel<1>(p0), channel<1>(p1), channel<1>(p2), channel<1>(p3), t);
    b = cubic(channel<2>(p0), channel<2>(p1), channel<2>(p2), channel<2>(p3), t);
  }
}

HWY_INLINE VI to_byte(VF v) {
  const F64 d;
  return hn::DemoteTo(I32(), hn::Min(hn::Max(v, hn::Zero(d)), hn::Set(d, 255)));
}

// kX, kY: whether pixels are read between columns, between rows.
template <bool kCubic, bool kX, bool kY>
void resample(const uint8_t* in, ImageSpan out, const AffineMatrix& m, const Rgb& fill) {
  const F64 d;
  const I32 i;
  const size_t lanes = hn::Lanes(d);
  const VF width = hn::Set(d, out.width), height = hn::Set(d, out.height);
  const VF half = hn::Set(d, 0.5), zero = hn::Zero(d);
  const VI one = hn::Set(i, 1), two = hn::Set(i, 2);
  const VI filled = hn::Set(i, fill[0] | fill[1] << 8 | fill[2] << 16);
  const Axis columns{out.width - 1, 3}, rows{out.height - 1, int(out.row_bytes())};
  HWY_ALIGN int32_t pixels[hn::MaxLanes(F64())];
  for (int y = 0; y < out.height; ++y) {
    const VF yin = hn::Set(d, y + 0.5);
    const VF by = hn::Mul(hn::Set(d, m.b), yin), ey = hn::Mul(hn::Set(d, m.e), yin);
    uint8_t* line = out.pixels + size_t(y) * out.row_bytes();
    for (size_t x = 0; x < size_t(out.width); x += lanes) {
      const VF xin = hn::Add(hn::Iota(d, double(x)), half);
      VF xs = hn::Add(hn::Add(hn::Mul(hn::Set(d, m.a), xin), by), hn::Set(d, m.c));
      VF ys = hn::Add(hn::Add(hn::Mul(hn::Set(d, m.d), xin), ey), hn::Set(d, m.f));
      const auto inside = hn::And(hn::And(hn::Ge(xs, zero), hn::Lt(xs, width)),
                                  hn::And(hn::Ge(ys, zero), hn::Lt(ys, height)));
      VI rgb = filled;
      if (!hn::AllFalse(d, inside)) {
        xs = hn::Sub(hn::IfThenElse(inside, xs, half), half);
        ys = hn::Sub(hn::IfThenElse(inside, ys, half), half);
        const VF xf = hn::Floor(xs), yf = hn::Floor(ys), tx = hn::Sub(xs, xf), ty = hn::Sub(ys, yf);
        const VI xi = hn::DemoteTo(i, xf), yi = hn::DemoteTo(i, yf);
        const VI x0 = columns.offset(hn::Sub(xi, one)), x1 = columns.offset(xi);
        const VI x2 = columns.offset(hn::Add(xi, one)), x3 = columns.offset(hn::Add(xi, two));
        const auto read = [&](VI row, VF& r, VF& g, VF& b) HWY_ATTR {
          read_row<kCubic, kX>(in, rows.offset(row), x0, x1, x2, x3, tx, r, g, b);
        };
        VF r, g, b;
        read(yi, r, g, b);
        if constexpr (kY) {
          VF r2, g2, b2;
          read(hn::Add(yi, one), r2, g2, b2);
          if constexpr (kCubic) {
            VF r0, g0, b0, r3, g3, b3;
            read(hn::Sub(yi, one), r0, g0, b0);
            read(hn::Add(yi, two), r3, g3, b3);
            r = cubic(r0, r, r2, r3, ty), g = cubic(g0, g, g2, g3, ty);
            b = cubic(b0, b, b2, b3, ty);
          } else {
            r = lerp(r, r2, ty), g = lerp(g, g2, ty), b = lerp(b, b2, ty);
          }
        }
        rgb =
            hn::Or(to_byte(r), hn::Or(hn::ShiftLeft<8>(to_byte(g)), hn::ShiftLeft<16>(to_byte(b))));
        // The mask of the doubles as one of the integers.
        const VI ones = hn::DemoteTo(i, hn::IfThenElseZero(inside, hn::Set(d, 1)));
        rgb = hn::IfThenElse(hn::Eq(ones, one), rgb, filled);
      }
      hn::Store(rgb, i, pixels);
      const size_t n = std::min(lanes, size_t(out.width) - x);
      // The fourth byte is overwritten by the next pixel.
      for (size_t k = 0; k + 1 < n; ++k) std::memcpy(line + (x + k) * 3, &pixels[k], 4);
      std::memcpy(line + (x + n - 1) * 3, &pixels[n - 1], 3);
    }
  }
}

template <bool kCubic>
void resample_image(const uint8_t* in, ImageSpan out, const AffineMatrix& m, const Rgb& fill) {
  // Between columns or rows that are met exactly, both rules give the pixel itself.
  const bool x = !(m.a == 1 && m.b == 0 && m.c == std::floor(m.c));
  const bool y = !(m.d == 0 && m.e == 1 && m.f == std::floor(m.f));
  if (x && y) return resample<kCubic, true, true>(in, out, m, fill);
  if (x) return resample<kCubic, true, false>(in, out, m, fill);
  if (y) return resample<kCubic, false, true>(in, out, m, fill);
  resample<kCubic, false, false>(in, out, m, fill);
}

void resample_bilinear(const uint8_t* in, ImageSpan out, const AffineMatrix& m, const Rgb& fill) {
  resample_image<false>(in, out, m, fill);
}
void resample_bicubic(const uint8_t* in, ImageSpan out, const AffineMatrix& m, const Rgb& fill) {
  resample_image<true>(in, out, m, fill);
}

}  // namespace HWY_NAMESPACE
}  // namespace sg::data
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sg::data {
namespace {

HWY_EXPORT(resample_bilinear);
HWY_EXPORT(resample_bicubic);

// Python's round(x, 15), by which Pillow makes cos(90 degrees) zero.
double round_15_digits(double x) {
  char text[32];
  const auto written = std::to_chars(text, std::end(text), x, std::chars_format::fixed, 15);
  std::from_chars(text, written.ptr, x);
  return x;
}

}  // namespace

AffineMatrix rotation(double degrees, int height, int width) {
  double turn = std::fmod(degrees, 360.0);
  if (turn < 0) turn += 360.0;
  const double angle = -(turn * (std::numbers::pi / 180.0)), x = width / 2.0, y = height / 2.0;
  AffineMatrix m;
  m.a = m.e = round_15_digits(std::cos(angle));
  m.b = round_15_digits(std::sin(angle)), m.d = round_15_digits(-std::sin(angle));
  m.c = m.a * -x + m.b * -y + x;
  m.f = m.d * -x + m.e * -y + y;
  return m;
}

void affine(ImageSpan image, const AffineMatrix& matrix, Filter filter, const Rgb& fill,
            std::vector<uint8_t>& scratch) {
  check(image.bytes() <= size_t{INT32_MAX} - 4, "affine: an image of {} x {} pixels is too large",
        image.height, image.width);
  scratch.resize(image.bytes() + 1);  // a pixel is read as four bytes
  std::memcpy(scratch.data(), image.pixels, image.bytes());
  if (filter == Filter::bilinear)
    HWY_DYNAMIC_DISPATCH(resample_bilinear)(scratch.data(), image, matrix, fill);
  else
    HWY_DYNAMIC_DISPATCH(resample_bicubic)(scratch.data(), image, matrix, fill);
}

}  // namespace sg::data
#endif
