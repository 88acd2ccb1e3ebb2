#include "data/png_write.h"

#include "data/decode.h"

#include "tests/data/images.h"
#include "tests/support/files.h"

namespace sg {

TEST_CASE("encode_png: what is written is what is read") {
  for (const auto& [height, width] : {std::pair{1, 1}, {3, 7}, {64, 33}}) {
    const data::Image image = test::noise(height, width);
    const data::Image back = data::decode(data::encode_png(image), "image");
    CHECK(back.height == height);
    CHECK(back.width == width);
    CHECK(back.pixels == image.pixels);
  }
}

TEST_CASE("encode_png: what it wrote is told from what others wrote") {
  const std::vector<uint8_t> png = data::encode_png(test::noise(3, 7));
  const std::string own(png.begin(), png.end());
  CHECK(data::is_own_png(own));
  CHECK_FALSE(data::is_own_png(own.substr(0, 40)));
  const size_t chunk = 12 + 18;  // the text, and length, type and CRC
  CHECK_FALSE(data::is_own_png(own.substr(0, 33) + own.substr(33 + chunk)));
  CHECK_FALSE(data::is_own_png("\xff\xd8\xff"));
  CHECK_FALSE(data::is_own_png(""));
}

TEST_CASE("encode_png: an empty image is an error") {
  test::error_of(ExitCode::failure, [] { data::encode_png({}); });
}

}  // namespace sg
