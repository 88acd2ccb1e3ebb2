#include "data/transforms/image_ops.h"

#include "tests/data/images.h"
#include "tests/support/files.h"

using namespace sg;
using namespace sg::data;

namespace {

template <class F>
std::vector<uint8_t> changed(Image image, F&& f) {
  f(image.span());
  return image.pixels;
}

// (1, n, 3) with all channels alike.
Image grey(const std::vector<int>& values) {
  Image image;
  image.reset(1, int(values.size()));
  for (size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = uint8_t(values[i / 3]);
  return image;
}

void check_values(const Image& in, const std::vector<int>& expected, void (*f)(ImageSpan)) {
  CHECK(changed(in, f) == grey(expected).pixels);
}

}  // namespace

TEST_CASE("image ops: values by hand") {
  const Image image = grey({0, 1, 100, 127, 128, 200, 255});
  check_values(image, {255, 254, 155, 128, 127, 55, 0}, invert);
  check_values(image, {0, 0, 64, 64, 128, 192, 192}, [](ImageSpan s) { posterize(s, 2); });
  check_values(image, {0, 0, 0, 0, 128, 128, 128}, [](ImageSpan s) { posterize(s, 1); });
  check_values(image, {0, 0, 0, 0, 0, 0, 0}, [](ImageSpan s) { posterize(s, 0); });
  check_values(image, {0, 1, 100, 128, 127, 55, 0}, [](ImageSpan s) { solarize(s, 127); });
  check_values(image, {99, 100, 199, 226, 128, 200, 255}, [](ImageSpan s) { solarize_add(s, 99); });
  check_values(image, {200, 201, 255, 255, 128, 200, 255},
               [](ImageSpan s) { solarize_add(s, 200); });
  // 255 / 50 = 5.1 a step, truncated.
  check_values(grey({10, 11, 30, 59, 60}), {0, 5, 102, 249, 255}, autocontrast);
}

TEST_CASE("image ops: what changes nothing") {
  const Image image = test::scene(9, 13), one = grey({7, 7, 7, 7});
  for (const int bits : {8, 9})
    CHECK(changed(image, [&](ImageSpan s) { posterize(s, bits); }) == image.pixels);
  CHECK(changed(image, [](ImageSpan s) { solarize(s, 256); }) == image.pixels);
  CHECK(changed(image, [](ImageSpan s) { solarize_add(s, 0); }) == image.pixels);
  check_values(one, {7, 7, 7, 7}, autocontrast);
  check_values(one, {7, 7, 7, 7}, equalize);
  // Fewer than 255 pixels below the brightest value: the step is 0.
  check_values(grey({1, 2, 3, 250}), {1, 2, 3, 250}, equalize);
}

TEST_CASE("image ops: equalize spreads the values evenly") {
  // 512 pixels each of 100, 101, 102, 103: step = 1536 / 255 = 6, first n = 3.
  std::vector<int> values, expected;
  for (int i = 0; i < 4 * 512; ++i) {
    values.push_back(100 + i / 512);
    expected.push_back(std::min(255, (3 + i / 512 * 512) / 6));
  }
  check_values(grey(values), expected, equalize);
}

TEST_CASE("image ops: channels have statistics of their own") {
  Image image;
  image.reset(1, 2);
  image.pixels = {10, 0, 5, 20, 255, 5};
  CHECK(changed(image, autocontrast) == std::vector<uint8_t>{0, 0, 5, 255, 255, 5});
}
