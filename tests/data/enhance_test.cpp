#include "data/transforms/enhance.h"

#include <algorithm>
#include <cmath>

#include "data/transforms/color_jitter.h"
#include "tests/data/images.h"
#include "tests/support/files.h"
#include "tests/support/simd_targets.h"

using namespace sg;
using namespace sg::data;

namespace {

// ImagingBlend: in float, truncated.
uint8_t blended(int degenerate, int value, double factor) {
  const float v = float(degenerate) + float(factor) * float(value - degenerate);
  return v <= 0 ? 0 : v >= 255 ? 255 : uint8_t(v);
}

int grey(const uint8_t* p) { return (p[0] * 19595 + p[1] * 38470 + p[2] * 7471 + 32768) >> 16; }

// ImagingFilter3x3 with SMOOTH: in float, in Pillow's order.
uint8_t smooth(const Image& image, int y, int i) {
  const float one = 1.0f / 13.0f, five = 5.0f / 13.0f;
  const auto three = [&](int row, float middle) {
    const uint8_t* p = image.row(row) + i;
    return float(p[-3]) * one + float(p[0]) * middle + float(p[3]) * one;
  };
  float sum = 0.5f;
  sum += three(y + 1, one);
  sum += three(y, five);
  sum += three(y - 1, one);
  return sum <= 0 ? 0 : sum >= 255 ? 255 : uint8_t(sum);
}

template <class F>
std::vector<uint8_t> changed(Image image, F&& f) {
  f(image.span());
  return image.pixels;
}

}  // namespace

TEST_CASE("enhance: the bytes of Pillow's float arithmetic, for any size and factor") {
  Random random(9, Purpose::test);
  std::vector<uint8_t> scratch;
  for (const auto& [h, w] :
       {std::pair{1, 1}, {1, 40}, {40, 1}, {2, 9}, {3, 3}, {3, 4}, {7, 23}, {20, 33}, {31, 64}})
    for (const double factor : {0.0, 0.19, 0.5591, 1.0, 1.4748, 1.81, random.uniform(0, 3)}) {
      const Image image = test::noise(h, w, uint64_t(100 * factor));
      int64_t sum = 0;
      for (size_t i = 0; i < image.pixels.size(); i += 3) sum += grey(&image.pixels[i]);
      const int mean = int(double(sum) / (double(h) * w) + 0.5);
      Image brightness = image, contrast = image, color = image, sharpness = image;
      for (int y = 0; y < h; ++y)
        for (int i = 0; i < w * 3; ++i) {
          const int v = image.row(y)[i];
          brightness.row(y)[i] = blended(0, v, factor);
          contrast.row(y)[i] = blended(mean, v, factor);
          color.row(y)[i] = blended(grey(image.row(y) + i / 3 * 3), v, factor);
          if (y > 0 && y < h - 1 && i >= 3 && i < (w - 1) * 3)
            sharpness.row(y)[i] = blended(smooth(image, y, i), v, factor);
        }
      CHECK(changed(image, [&](ImageSpan s) { adjust_brightness(s, factor); }) ==
            brightness.pixels);
      test::for_each_target([&] {
        CHECK(changed(image, [&](ImageSpan s) { adjust_contrast(s, factor); }) == contrast.pixels);
        CHECK(changed(image, [&](ImageSpan s) { adjust_saturation(s, factor); }) == color.pixels);
        CHECK(changed(image, [&](ImageSpan s) { adjust_sharpness(s, factor, scratch); }) ==
              sharpness.pixels);
      });
    }
}

TEST_CASE("enhance: factor 1 changes nothing") {
  const Image image = test::scene(21, 35);
  std::vector<uint8_t> scratch;
  CHECK(changed(image, [](ImageSpan s) { adjust_brightness(s, 1); }) == image.pixels);
  CHECK(changed(image, [](ImageSpan s) { adjust_contrast(s, 1); }) == image.pixels);
  CHECK(changed(image, [](ImageSpan s) { adjust_saturation(s, 1); }) == image.pixels);
  CHECK(changed(image, [&](ImageSpan s) { adjust_sharpness(s, 1, scratch); }) == image.pixels);
}

TEST_CASE("color jitter: brightness, contrast and saturation, by even factors, in every order") {
  const Image image = test::noise(20, 20);
  const double strength = 0.4;
  using Adjust = void (*)(ImageSpan, double);
  std::array<int, 6> seen{};
  const int n = 600;
  double factors = 0;
  for (int i = 0; i < n; ++i) {
    Random jitter(1, Purpose::test, uint64_t(i)), replay = jitter;
    const auto found =
        changed(image, [&](ImageSpan s) { color_jitter(s, draw_color_jitter(strength, jitter)); });
    replay.integer(0, 2), replay.integer(0, 1);  // the order
    std::array<double, 3> f;
    for (double& v : f) factors += v = replay.uniform(1 - strength, 1 + strength);
    std::array<int, 3> order{0, 1, 2};
    int matches = 0, match = 0, k = 0;
    do {
      const auto expected = changed(image, [&](ImageSpan s) {
        const Adjust all[] = {adjust_brightness, adjust_contrast, adjust_saturation};
        for (size_t j = 0; j < 3; ++j) all[order[j]](s, f[j]);
      });
      if (found == expected) ++matches, match = k;
      ++k;
    } while (std::next_permutation(order.begin(), order.end()));
    CHECK(matches >= 1);
    if (matches == 1) ++seen[size_t(match)];  // factors near 1 may make two orders alike
  }
  // Five standard deviations of a share of 1/6, and of the mean of 3 n uniform numbers.
  for (const int count : seen) CHECK(std::abs(count - n / 6) < 5 * std::sqrt(n * 5.0 / 36));
  CHECK(std::abs(factors / (3 * n) - 1) < 5 * 0.8 / std::sqrt(12.0 * 3 * n));
  // Strengths above 1: factors begin at 0.
  Random random(2, Purpose::test);
  for (int i = 0; i < 200; ++i)
    for (const double factor : draw_color_jitter(2, random).factors)
      CHECK((factor >= 0 && factor < 3));
}
