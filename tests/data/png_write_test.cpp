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

TEST_CASE("encode_png: an empty image is an error") {
  test::error_of(ExitCode::failure, [] { data::encode_png({}); });
}

}  // namespace sg
