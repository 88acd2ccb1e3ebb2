#include "data/png_write.h"

#include <png.h>
#include <zlib.h>

#include <algorithm>
#include <string>

#include "core/error.h"

namespace sg::data {
namespace {

constexpr size_t kFirstChunk = 8 + 25;  // behind the signature and IHDR

void append_u32(std::string& to, uint32_t v) {
  to.append({char(v >> 24), char(v >> 16), char(v >> 8), char(v)});
}

// A chunk of text: length, type, key and value, CRC-32 of type and text.
std::string software_chunk() {
  const std::string body("tEXtSoftware\0SG-Former", 22);
  std::string chunk;
  append_u32(chunk, uint32_t(body.size() - 4));
  chunk += body;
  append_u32(chunk,
             uint32_t(::crc32(0, reinterpret_cast<const Bytef*>(body.data()), uInt(body.size()))));
  return chunk;
}

// The bytes of a PNG file; of a format with colours for indices, those of `palette`.
std::vector<uint8_t> written(int height, int width, png_uint_32 format, const void* pixels,
                             std::span<const Rgb> palette) {
  png_image png{};
  png.version = PNG_IMAGE_VERSION;
  png.width = png_uint_32(width), png.height = png_uint_32(height);
  png.format = format, png.colormap_entries = png_uint_32(palette.size());
  std::vector<uint8_t> bytes(PNG_IMAGE_PNG_SIZE_MAX(png));
  png_alloc_size_t size = bytes.size();
  if (!png_image_write_to_memory(&png, bytes.data(), &size, 0, pixels, 0, palette.data()))
    fail(ExitCode::failure, "a PNG cannot be written: {}", png.message);
  bytes.resize(size);
  const std::string software = software_chunk();
  bytes.insert(bytes.begin() + kFirstChunk, software.begin(), software.end());
  return bytes;
}

}  // namespace

bool is_own_png(std::string_view begin) {
  constexpr std::string_view kSignature = "\x89PNG\r\n\x1a\n";
  return begin.starts_with(kSignature) && begin.size() > kFirstChunk &&
         begin.substr(kFirstChunk).starts_with(software_chunk());
}

std::vector<uint8_t> encode_png(const Image& image) {
  check(image.height > 0 && image.width > 0, "encode_png: the image is empty ({} x {})",
        image.height, image.width);
  return written(image.height, image.width, PNG_FORMAT_RGB, image.pixels.data(), {});
}

std::vector<uint8_t> encode_label_png(const LabelImage& labels, std::span<const Rgb> palette) {
  check(labels.height > 0 && labels.width > 0, "encode_label_png: the image is empty ({} x {})",
        labels.height, labels.width);
  const uint8_t most = *std::ranges::max_element(labels.pixels);
  check(most < palette.size() && palette.size() <= 256,
        "encode_label_png: a label {}, and {} colours", most, palette.size());
  return written(labels.height, labels.width, PNG_FORMAT_RGB_COLORMAP, labels.pixels.data(),
                 palette);
}

}  // namespace sg::data
