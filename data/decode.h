// Encoded images to RGB pixels, with the bytes of Pillow's convert("RGB"): EXIF orientation ignored
// (but that of a TIFF applied), alpha dropped, grey of 16 bits clipped, CMYK inverted as Adobe
// writes it; of several frames the first. JPEG by libjpeg-turbo, PNG by libpng, WebP by libwebp,
// TIFF by libtiff, AVIF by libavif, BMP by stb_image; GIF, run-length encoded BMP, PBM, PGM and PPM
// here. The format is told by content, never by name.
//
// Differences from Pillow, on purpose: a PNG with a wrong checksum and a JPEG without its end
// marker are errors (not always to Pillow).
//
// Whatever the bytes are, the outcome is pixels or an Error (ExitCode::data) that begins with
// `name`. Sizes are checked before memory is taken.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "data/image.h"

namespace sg::data {

constexpr const char* kImageFormats = "JPEG, PNG, WebP, TIFF, AVIF, GIF, BMP, PPM, PGM, PBM";

struct DecodeLimits {
  int64_t max_pixels = 180'000'000;  // width x height
  int64_t max_side = 1'000'000;
  int64_t max_bytes = int64_t{1} << 30;  // of the encoded file
  int max_scans = 100;                   // of a progressive JPEG; encoders use about 10
};

// An image whose size is known and whose pixels come when asked for.
class Source {
 public:
  virtual ~Source() = default;
  int height() const { return height_; }
  int width() const { return width_; }

  // The pixels of `box`, equal to those of the whole image cropped; at most once. Of a damaged
  // file only the rows down to the end of the box are certain to be checked, and truncation.
  virtual void read(const Box& box, Image& out) = 0;
  void read(Image& out) { read({0, 0, width_, height_}, out); }
  // The same without the last copy: a view of `scratch`, whose rows may hold more than the box.
  virtual ImageView view(const Box& box, Image& scratch) {
    read(box, scratch);
    return scratch.view();
  }

 protected:
  int height_ = 0, width_ = 0;
};

// `bytes` must outlive the result.
std::unique_ptr<Source> open_image(std::span<const uint8_t> bytes, std::string_view name,
                                   const DecodeLimits& limits = {});

Image decode(std::span<const uint8_t> bytes, std::string_view name,
             const DecodeLimits& limits = {});
Image decode_region(std::span<const uint8_t> bytes, std::string_view name, const Box& box,
                    const DecodeLimits& limits = {});

ImageSize probe(std::span<const uint8_t> bytes, std::string_view name,
                const DecodeLimits& limits = {});

// The file's bytes, into memory that is kept from call to call.
void read_bytes(const std::string& path, std::vector<uint8_t>& bytes,
                const DecodeLimits& limits = {});

// Pixels of one byte a channel that are in memory: 1 (grey) or 3 channels.
std::unique_ptr<Source> open_pixels(const uint8_t* pixels, int height, int width, int channels);

}  // namespace sg::data
