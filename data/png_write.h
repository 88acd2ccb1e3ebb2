// Images to PNG files.
#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

#include "data/image.h"

namespace sg::data {

// The bytes of a PNG file, 8-bit RGB without loss, whose text "Software" is SG-Former.
std::vector<uint8_t> encode_png(const Image& image);
// Whether a file that begins so is one of encode_png().
bool is_own_png(std::string_view begin);

}  // namespace sg::data
