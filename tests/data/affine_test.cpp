#include "data/transforms/affine.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "tests/data/images.h"
#include "tests/support/files.h"
#include "tests/support/simd_targets.h"

using namespace sg;
using namespace sg::data;

namespace {

// Pillow's loops (ImagingGenericTransform, bilinear_filter32RGB, bicubic_filter32RGB) as they are.
Image literal(const Image& in, const AffineMatrix& m, Filter filter, const Rgb& fill) {
  const auto at = [&](int y, int x, int c) {
    y = std::clamp(y, 0, in.height - 1), x = std::clamp(x, 0, in.width - 1);
    return double(in.row(y)[x * 3 + c]);
  };
  const auto cubic = [](double v1, double v2, double v3, double v4, double d) {
    const double p1 = v2, p2 = -v1 + v3, p3 = 2 * (v1 - v2) + v3 - v4, p4 = -v1 + v2 - v3 + v4;
    return p1 + d * (p2 + d * (p3 + d * p4));
  };
  Image out;
  out.reset(in.height, in.width);
  for (int y = 0; y < in.height; ++y)
    for (int x = 0; x < in.width; ++x)
      for (int c = 0; c < 3; ++c) {
        double xs = m.a * (x + 0.5) + m.b * (y + 0.5) + m.c;
        double ys = m.d * (x + 0.5) + m.e * (y + 0.5) + m.f;
        uint8_t& result = out.row(y)[x * 3 + c];
        result = fill[size_t(c)];
        if (xs < 0 || xs >= in.width || ys < 0 || ys >= in.height) continue;
        xs -= 0.5, ys -= 0.5;
        const int i = int(std::floor(xs)), j = int(std::floor(ys));
        const double dx = xs - i, dy = ys - j;
        double v = 0;
        if (filter == Filter::bilinear) {
          const auto row = [&](int k) {
            return at(k, i, c) + (at(k, i + 1, c) - at(k, i, c)) * dx;
          };
          const double v1 = row(j), v2 = row(j + 1);
          v = v1 + (v2 - v1) * dy;
        } else {
          const auto row = [&](int k) {
            return cubic(at(k, i - 1, c), at(k, i, c), at(k, i + 1, c), at(k, i + 2, c), dx);
          };
          v = cubic(row(j - 1), row(j), row(j + 1), row(j + 2), dy);
        }
        result = v <= 0 ? 0 : v >= 255 ? 255 : uint8_t(v);
      }
  return out;
}

Image transformed(Image image, const AffineMatrix& m, Filter filter, const Rgb& fill = {1, 2, 3}) {
  std::vector<uint8_t> scratch;
  affine(image.span(), m, filter, fill, scratch);
  return image;
}

}  // namespace

TEST_CASE("affine: the bytes of Pillow's loops, for any matrix and size") {
  Random random(5, Purpose::test);
  const auto u = [&](double size) { return random.uniform(-size, size); };
  const Rgb fill{1, 2, 3};
  int filled = 0, pixels = 0;
  for (const auto& [h, w] : {std::pair{1, 1}, {1, 7}, {9, 1}, {2, 3}, {17, 5}, {33, 40}, {48, 31}})
    for (int i = 0; i < 12; ++i) {
      const Image image = test::noise(h, w, uint64_t(i));
      const AffineMatrix any{1 + u(.5), u(.5), u(5), u(.5), 1 + u(.5), u(5)};
      for (const AffineMatrix& m :
           {any, rotation(u(720), h, w), shear_x(u(.5)), shear_y(u(.5)), translation(u(w), 0),
            translation(0, u(h)), translation(u(w), u(h)), translation(2, -1)})
        for (const Filter filter : {Filter::bilinear, Filter::bicubic}) {
          const Image expected = literal(image, m, filter, fill);
          test::for_each_target(
              [&] { CHECK(transformed(image, m, filter, fill).pixels == expected.pixels); });
          for (size_t k = 0; k < expected.pixels.size(); k += 3, ++pixels)
            filled += std::equal(fill.begin(), fill.end(), &expected.pixels[k]);
        }
    }
  CHECK(filled > pixels / 10);
  CHECK(filled < pixels * 9 / 10);
}

TEST_CASE("affine: whole turns, quarter turns and whole translations move pixels unchanged") {
  const Image image = test::noise(12, 12);
  for (const Filter filter : {Filter::bilinear, Filter::bicubic}) {
    CHECK(transformed(image, rotation(360, 12, 12), filter).pixels == image.pixels);
    const Image quarter = transformed(image, rotation(90, 12, 12), filter);
    const Image moved = transformed(image, translation(2, -1), filter);
    for (int y = 0; y < 12; ++y)
      for (int x = 0; x < 12; ++x)
        for (int c = 0; c < 3; ++c) {
          // Counter-clockwise: the right column becomes the upper row.
          CHECK(quarter.row(y)[x * 3 + c] == image.row(x)[(11 - y) * 3 + c]);
          const bool outside = x + 2 > 11 || y - 1 < 0;
          CHECK(moved.row(y)[x * 3 + c] == (outside ? c + 1 : image.row(y - 1)[(x + 2) * 3 + c]));
        }
  }
}
