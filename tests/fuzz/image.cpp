// Encoded images of every kind: whole, and a part of them.
#include "data/decode.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // Small images: a byte can ask for millions of pixels, and time would go into writing those.
  const sg::data::DecodeLimits limits{.max_pixels = 1 << 16};
  sg::test::value_or_error(sg::ExitCode::data, [&] {
    sg::data::decode({data, size}, "image", limits);
  });
  sg::test::value_or_error(sg::ExitCode::data, [&] {
    const auto [height, width] = sg::data::probe({data, size}, "image", limits);
    const sg::Box box{width / 3, height / 3, (width + 1) / 2, (height + 1) / 2};
    sg::data::decode_region({data, size}, "image", box, limits);
  });
  return 0;
}
