#include "data/side_by_side.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "core/error.h"

using namespace sg;
using namespace sg::data;

namespace {

Image grey(int height, int width, uint8_t value) {
  Image image;
  image.reset(height, width);
  std::ranges::fill(image.pixels, value);
  return image;
}

}  // namespace

TEST_CASE("side_by_side: images from left to right, white columns between them") {
  const Image row = side_by_side({grey(2, 3, 10), grey(2, 1, 20), grey(2, 2, 30)});
  REQUIRE(row.height == 2);
  REQUIRE(row.width == 3 + 1 + 2 + 2 * kSideBySideGap);
  for (int y = 0; y < row.height; ++y)
    for (int x = 0; x < row.width; ++x) {
      const int second = 3 + kSideBySideGap, third = second + 1 + kSideBySideGap;
      const int expected = x < 3 ? 10 : x == second ? 20 : x >= third ? 30 : 255;
      for (int c = 0; c < 3; ++c) CHECK(row.row(y)[3 * x + c] == expected);
    }
  CHECK_THROWS_AS(side_by_side({grey(2, 3, 0), grey(3, 3, 0)}), Error);
  CHECK_THROWS_AS(side_by_side({}), Error);
}
