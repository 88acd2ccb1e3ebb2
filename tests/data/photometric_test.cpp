#include "data/transforms/photometric.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "tests/support/simd_targets.h"

using namespace sg;
using namespace sg::data;

namespace {

using Triple = std::array<uint8_t, 3>;

// OpenCV's rules, a pixel at a time.
Triple hsv_of(const Triple& rgb) {
  const auto [r, g, b] = std::array<int, 3>{rgb[0], rgb[1], rgb[2]};
  const int v = std::max({r, g, b}), d = v - std::min({r, g, b});
  const auto quotient = [](double n, int i) { return i ? int(std::nearbyint(n * 4096 / i)) : 0; };
  const int s = (d * quotient(255, v) + 2048) >> 12;
  int h = v == r ? g - b : v == g ? b - r + 2 * d : r - g + 4 * d;
  h = (h * quotient(180, 6 * d) + 2048) >> 12;
  return {uint8_t(h < 0 ? h + 180 : h), uint8_t(s), uint8_t(v)};
}

Triple rgb_of(const Triple& hsv) {
  float h = float(hsv[0]) * float(6.0 / 180);
  const float s = float(hsv[1]) * float(1.0 / 255), v = float(hsv[2]) * float(1.0 / 255);
  const auto k = size_t(std::floor(h));
  h -= float(k);
  const float t[] = {v, v * (1 - s), v * std::fma(-s, h, 1.f), v * std::fma(-s, 1 - h, 1.f)};
  constexpr int kBgr[6][3] = {{1, 3, 0}, {1, 0, 2}, {3, 0, 1}, {0, 2, 1}, {0, 1, 3}, {2, 1, 0}};
  const auto byte = [&](int c) { return uint8_t(t[kBgr[k % 6][c]] * 255); };
  return {byte(2), byte(1), byte(0)};
}

// Triples of all values in steps.
std::vector<uint8_t> triples(int first_end, int first_step, int step) {
  std::vector<uint8_t> all;
  for (int a = 0; a < first_end; a += first_step)
    for (int b = 0; b < 256; b += step)
      for (int c = 0; c < 256; c += step)
        all.insert(all.end(), {uint8_t(a), uint8_t(b), uint8_t(c)});
  return all;
}

template <class F>
std::vector<uint8_t> mapped(const std::vector<uint8_t>& in, F&& f) {
  std::vector<uint8_t> out;
  for (size_t i = 0; i < in.size(); i += 3) {
    const Triple t = f(Triple{in[i], in[i + 1], in[i + 2]});
    out.insert(out.end(), t.begin(), t.end());
  }
  return out;
}

}  // namespace

TEST_CASE("photometric: colours to HSV and back by OpenCV's rules, on every instruction set") {
  const std::vector<uint8_t> rgb = triples(256, 5, 3), hsv = triples(256, 1, 5);
  const std::vector<uint8_t> to_hsv = mapped(rgb, hsv_of), to_rgb = mapped(hsv, rgb_of);
  test::for_each_target([&] {
    std::vector<uint8_t> found = rgb;
    rgb_to_hsv(found);
    CHECK(found == to_hsv);
    found = hsv;
    hsv_to_rgb(found);
    CHECK(found == to_rgb);
    // Runs of any length, the bytes behind untouched.
    for (size_t pixels = 1; pixels < 40; ++pixels) {
      found = rgb;
      rgb_to_hsv(std::span(found).first(3 * pixels));
      CHECK(std::equal(found.begin(), found.begin() + long(3 * pixels), to_hsv.begin()));
      CHECK(std::equal(found.begin() + long(3 * pixels), found.end(),
                       rgb.begin() + long(3 * pixels)));
    }
  });
}

TEST_CASE("photometric: saturation and hue go to HSV and back, each by itself") {
  const std::vector<uint8_t> rgb = triples(256, 7, 11);
  test::for_each_target([&] {
    for (const float factor : {0.5f, 1.f, 1.37f}) {
      std::vector<uint8_t> found = rgb;
      scale_saturation(found, factor);
      CHECK(found == mapped(rgb, [&](const Triple& t) {
              const auto [h, s, v] = hsv_of(t);
              return rgb_of({h, uint8_t(std::clamp(float(s) * factor, 0.f, 255.f)), v});
            }));
    }
    for (const int shift : {-18, -1, 0, 17}) {
      std::vector<uint8_t> found = rgb;
      shift_hue(found, shift);
      CHECK(found == mapped(rgb, [&](const Triple& t) {
              const auto [h, s, v] = hsv_of(t);
              return rgb_of({uint8_t((h + shift + 180) % 180), s, v});
            }));
    }
  });
}

TEST_CASE("photometric: results are clipped and truncated, never rounded") {
  std::vector<uint8_t> v{0, 1, 99, 101, 200, 255};
  scale_bytes(v, 1.5f, 0);
  CHECK(v == std::vector<uint8_t>{0, 1, 148, 151, 255, 255});
  scale_bytes(v, 1, -1.25f);
  CHECK(v == std::vector<uint8_t>{0, 0, 146, 149, 253, 253});
}

TEST_CASE("photometric: contrast where the coin says, and the order matters") {
  const std::vector<uint8_t> rgb = triples(256, 31, 31);
  for (const bool first : {true, false}) {
    std::vector<uint8_t> found = rgb, expected = rgb;
    distort(found, {.brightness = 20.f,
                    .contrast = 1.4f,
                    .contrast_first = first,
                    .saturation = 0.7f,
                    .hue = 9});
    scale_bytes(expected, 1, 20);
    if (first) scale_bytes(expected, 1.4f, 0);
    scale_saturation(expected, 0.7f);
    shift_hue(expected, 9);
    if (!first) scale_bytes(expected, 1.4f, 0);
    CHECK(found == expected);
  }
  std::vector<uint8_t> untouched = rgb;
  distort(untouched, {});
  CHECK(untouched == rgb);
}

TEST_CASE("photometric: each half the time, evenly over its range") {
  constexpr int kDraws = 20'000;
  struct Drawn {
    int times = 0;
    double sum = 0, least = 1e9, most = -1e9;
    void add(double v) { ++times, sum += v, least = std::min(least, v), most = std::max(most, v); }
  } brightness, contrast, saturation, hue;
  int first = 0;
  for (int i = 0; i < kDraws; ++i) {
    Random random(3, Purpose::test, uint64_t(i));
    const Photometric p = draw_photometric(random);
    if (p.brightness) brightness.add(*p.brightness);
    if (p.contrast) contrast.add(*p.contrast);
    if (p.saturation) saturation.add(*p.saturation);
    if (p.hue) hue.add(*p.hue);
    first += p.contrast_first;
  }
  // Five standard errors, of a share and of the mean of an even distribution.
  const double of_share = 5 * std::sqrt(0.25 / kDraws);
  const auto is_even = [&](const Drawn& d, double low, double high, double width) {
    CHECK(std::abs(d.times / double(kDraws) - 0.5) < of_share);
    CHECK(std::abs(d.sum / d.times - (low + high) / 2) < 5 * width / std::sqrt(12.0 * d.times));
    CHECK(d.least >= low);
    CHECK(d.most <= high);
    CHECK(d.least < low + 0.01 * width);
    CHECK(d.most > high - 0.01 * width);
  };
  is_even(brightness, -32, 32, 64);
  is_even(contrast, 0.5, 1.5, 1);
  is_even(saturation, 0.5, 1.5, 1);
  is_even(hue, -18, 17, 36);
  CHECK(std::abs(first / double(kDraws) - 0.5) < of_share);
}
