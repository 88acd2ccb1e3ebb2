// Images to PNG files.
#pragma once
#include <cstdint>
#include <vector>

#include "data/image.h"

namespace sg::data {

// The bytes of a PNG file, 8-bit RGB without loss.
std::vector<uint8_t> encode_png(const Image& image);

}  // namespace sg::data
