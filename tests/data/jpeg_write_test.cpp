#include "data/jpeg_write.h"

#include <cmath>

#include "core/error.h"
#include "data/decode.h"
#include "tests/data/images.h"
#include "tests/support/files.h"

using namespace sg;
using namespace sg::data;

namespace {

// Root of the mean squared difference of two images' bytes.
double difference(const Image& a, const Image& b) {
  REQUIRE(a.pixels.size() == b.pixels.size());
  double sum = 0;
  for (size_t i = 0; i < a.pixels.size(); ++i) {
    const double d = double(a.pixels[i]) - double(b.pixels[i]);
    sum += d * d;
  }
  return std::sqrt(sum / double(a.pixels.size()));
}

}  // namespace

TEST_CASE("JPEG: what is written decodes to the image again, nearer at a higher quality") {
  const Image image = test::scene(61, 83);
  const auto off = [&](int quality, ChromaSampling sampling) {
    const auto bytes = encode_jpeg(image, quality, sampling);
    const Image back = decode(bytes, "written");
    CHECK(back.height == 61);
    CHECK(back.width == 83);
    return difference(image, back);
  };
  // At quality 100 every coefficient is rounded to a whole number: an error of 1 / sqrt(12) a
  // channel, rounding to bytes as much again, and the conversion of colours up to 1.8 times that.
  CHECK(off(100, ChromaSampling::full) < 1.5);
  CHECK(off(90, ChromaSampling::full) < off(50, ChromaSampling::full));
  CHECK(off(100, ChromaSampling::full) < off(100, ChromaSampling::quarter));
  // The same bytes as from the encoder of the tests, which is libjpeg's own defaults.
  CHECK(encode_jpeg(image, 85, ChromaSampling::quarter) == test::jpeg(image));
  CHECK(encode_jpeg(image, 85, ChromaSampling::full) ==
        test::jpeg(image, {.across = 1, .down = 1}));
  CHECK_THROWS_AS(encode_jpeg({}, 90, ChromaSampling::full), Error);
  CHECK_THROWS_AS(encode_jpeg(image, 0, ChromaSampling::full), Error);
}
