#include "ops/normalize/normalize.h"

#include <doctest/doctest.h>

#include "tests/support/op_case.h"

using namespace sg;

TEST_CASE("normalize: every value of every channel, at any size") {
  const ChannelStats stats;
  for (const Shape& shape :
       {Shape{1, 16, 16, 3}, {2, 5, 7, 3}, {1, 1, 1, 3}, {3, 160, 161, 3}, {0, 4, 4, 3}}) {
    Tensor pixels = empty(shape, Dtype::u8), expected = empty(shape, Dtype::f64);
    for (int64_t i = 0; i < pixels.numel(); ++i) {
      // Pixel p holds p + 11 c in channel c.
      const int64_t c = i % 3, v = (i / 3 + 11 * c) % 256;
      pixels.data<uint8_t>()[i] = uint8_t(v);
      expected.data<double>()[i] = (double(v) - 255 * stats.mean[c]) / (255 * stats.std[c]);
    }
    CHECK(to_vector<double>(normalize(pixels, stats, Dtype::f64)) == to_vector<double>(expected));
    CHECK(to_vector<float>(normalize(pixels, stats)) == to_vector<float>(expected));
  }
}

TEST_CASE("normalize: other statistics, e.g. [0, 255] to [-1, 1]") {
  const Tensor y = normalize(from_vector<uint8_t>({0, 255, 51}, {1, 1, 1, 3}),
                             {{0.5, 0.5, 0.5}, {0.5, 0.5, 0.5}}, Dtype::f64);
  CHECK(test::relative_error(y, from_vector<double>({-1, 1, -0.6}, {1, 1, 1, 3})) < 1e-15);
}

TEST_CASE("normalize: wrong arguments are named") {
  CHECK_THROWS_WITH_AS(normalize(zeros({1, 2, 2, 3}), {}),
                       "normalize: pixels: expected (B, H, W, 3) u8, found (1, 2, 2, 3) f32",
                       Error);
  CHECK_THROWS_WITH_AS(normalize(zeros({1, 3, 2, 2}, Dtype::u8), {}),
                       "normalize: pixels: expected (B, H, W, 3) u8, found (1, 3, 2, 2) u8", Error);
  CHECK_THROWS_WITH_AS(normalize(zeros({1, 2, 2, 3}, Dtype::u8), {{0, 0, 0}, {1, 0, 1}}),
                       "normalize: std: expected above 0, found 0", Error);
  CHECK_THROWS_WITH_AS(normalize(zeros({1, 2, 2, 3}, Dtype::u8), {}, Dtype::i32),
                       "normalize: dtype i32 is not supported here", Error);
}
