#include "data/opencv_resize.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "tests/data/images.h"
#include "tests/support/simd_targets.h"

using namespace sg;
using namespace sg::data;

namespace {

// OpenCV's rule, a pixel at a time, written without a look at the product's.
Image bilinear(const Image& in, int height, int width) {
  Image out;
  out.reset(height, width);
  const bool half = in.height == 2 * height && in.width == 2 * width;
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < 3; ++c) {
        const auto at = [&](int row, int column) {
          return int(in.row(std::clamp(row, 0, in.height - 1))[column * 3 + c]);
        };
        uint8_t& to = out.row(y)[x * 3 + c];
        if (half) {
          to = uint8_t((at(2 * y, 2 * x) + at(2 * y, 2 * x + 1) + at(2 * y + 1, 2 * x) +
                        at(2 * y + 1, 2 * x + 1) + 2) >>
                       2);
          continue;
        }
        const double sx = 1.0 / (double(width) / in.width), sy = 1.0 / (double(height) / in.height);
        auto fx = float((x + 0.5) * sx - 0.5), fy = float((y + 0.5) * sy - 0.5);
        int ix = int(std::floor(fx));
        const int iy = int(std::floor(fy));
        fx -= float(ix), fy -= float(iy);
        if (ix < 0) ix = 0, fx = 0;
        if (ix >= in.width - 1) ix = in.width - 1, fx = 0;
        const auto weight = [](float f) { return int(std::nearbyint(f * 2048.f)); };
        const int right = std::min(ix + 1, in.width - 1);
        const auto across = [&](int row) {
          return at(row, ix) * weight(1.f - fx) + at(row, right) * weight(fx);
        };
        to = uint8_t((((weight(1.f - fy) * (across(iy) >> 4)) >> 16) +
                      ((weight(fy) * (across(iy + 1) >> 4)) >> 16) + 2) >>
                     2);
      }
  return out;
}

}  // namespace

TEST_CASE("opencv resize: bilinear by its rule, at odd sizes, on every instruction set") {
  test::for_each_target([] {
    for (const auto& [h, w] : {std::pair{1, 1}, {2, 2}, {7, 5}, {40, 62}, {31, 97}})
      for (const auto& [to_h, to_w] :
           {std::pair{1, 1}, {3, 2}, {20, 31}, {40, 62}, {53, 41}, {93, 130}, {17, 200}}) {
        CAPTURE(h);
        CAPTURE(w);
        CAPTURE(to_h);
        CAPTURE(to_w);
        const Image in = test::noise(h, w);
        Image out;
        out.reset(to_h, to_w);
        BilinearResizer()(in.view(), {to_h, to_w}, 3, out.pixels.data());
        CHECK(out.pixels == bilinear(in, to_h, to_w).pixels);
      }
  });
}

TEST_CASE("opencv resize: a window of the result, from the source pixels that it needs alone") {
  const Image in = test::noise(37, 51);
  BilinearResizer resizer;
  for (const ImageSize to : {ImageSize{61, 80}, {20, 33}, {37, 51}, {90, 17}}) {
    const Image whole = bilinear(in, to.height, to.width);
    for (const Box& window :
         {Box{0, 0, to.width, to.height}, {3, 5, 9, 11}, {to.width - 4, to.height - 7, 4, 7}}) {
      const Box used = BilinearResizer::source_box({37, 51}, to, window);
      Image part;
      part.reset(used.height, used.width);
      for (int y = 0; y < used.height; ++y)
        std::copy_n(in.row(used.top + y) + used.left * 3, used.width * 3, part.row(y));
      std::vector<uint8_t> out(size_t(window.area()) * 3);
      resizer(part.view(), used, {37, 51}, to, window, 3, out.data());
      for (int y = 0; y < window.height; ++y)
        CHECK(std::equal(whole.row(window.top + y) + window.left * 3,
                         whole.row(window.top + y) + window.right() * 3,
                         out.data() + y * window.width * 3));
    }
  }
  CHECK(BilinearResizer::source_box({40, 60}, {20, 30}, {1, 2, 3, 4}) == Box{2, 4, 6, 8});
}

TEST_CASE("opencv resize: one channel is the first of three") {
  const Image in = test::noise(23, 19);
  std::vector<uint8_t> red;
  for (size_t i = 0; i < in.pixels.size(); i += 3) red.push_back(in.pixels[i]);
  std::vector<uint8_t> out(31 * 44);
  BilinearResizer()({red.data(), 23, 19, 19}, {31, 44}, 1, out.data());
  const Image expected = bilinear(in, 31, 44);
  for (size_t i = 0; i < out.size(); ++i) REQUIRE(out[i] == expected.pixels[i * 3]);
}

TEST_CASE("opencv resize: nearest falls short of the exact floor where its steps do") {
  std::vector<int> at;
  nearest_positions(2, 98, 0, 98, at);
  CHECK(at[48] == 0);
  CHECK(at[49] == 0);  // 49 * (1 / (98 / 2)) is less than 1
  CHECK(at[50] == 1);
  nearest_positions(10, 4, 0, 4, at);
  CHECK(at == std::vector<int>{0, 2, 5, 7});
  nearest_positions(10, 4, 2, 2, at);
  CHECK(at == std::vector<int>{5, 7});
  const Image in = test::noise(3, 4);
  std::vector<uint8_t> out(2 * 2 * 3);
  gather_pixels(in.view(), std::vector{2, 0}, std::vector{1, 1}, 3, out.data());
  CHECK(std::equal(out.begin(), out.begin() + 3, in.row(2) + 3));
  CHECK(std::equal(out.begin() + 9, out.end(), in.row(0) + 3));
}
