// Label images of semantic segmentation: a byte a pixel.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "data/decode.h"
#include "data/image.h"

namespace sg::data {

struct LabelImage {
  int height = 0, width = 0;
  std::vector<uint8_t> pixels;

  // Takes on a size and keeps the memory; the pixels are left undefined.
  void reset(int new_height, int new_width) {
    height = new_height, width = new_width;
    pixels.resize(size_t(height) * size_t(width));
  }
  // Of one channel.
  ImageView view() const { return {pixels.data(), height, width, size_t(width)}; }
};

// The numbers in a PNG of at most 8 bits a pixel: grey values as they are stored, not scaled, and
// of a palette the indices. Throws ExitCode::data of any other file and says what to do.
void decode_label(std::span<const uint8_t> bytes, std::string_view name, LabelImage& out,
                  const DecodeLimits& limits = {});

// A colour a class, all different for up to 255: colour i + 1 of Pascal VOC's rule (the bits of the
// number dealt out to red, green and blue from the highest on), of which 0 is black.
std::vector<Rgb> class_palette(int64_t classes);

}  // namespace sg::data
