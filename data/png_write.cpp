#include "data/png_write.h"

#include <png.h>

#include "core/error.h"

namespace sg::data {

std::vector<uint8_t> encode_png(const Image& image) {
  check(image.height > 0 && image.width > 0, "encode_png: the image is empty ({} x {})",
        image.height, image.width);
  png_image png{};
  png.version = PNG_IMAGE_VERSION;
  png.width = png_uint_32(image.width), png.height = png_uint_32(image.height);
  png.format = PNG_FORMAT_RGB;
  std::vector<uint8_t> bytes(PNG_IMAGE_PNG_SIZE_MAX(png));
  png_alloc_size_t size = bytes.size();
  if (!png_image_write_to_memory(&png, bytes.data(), &size, 0, image.pixels.data(), 0, nullptr))
    fail(ExitCode::failure, "encode_png: {}", png.message);
  bytes.resize(size);
  return bytes;
}

}  // namespace sg::data
