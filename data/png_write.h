// Images to PNG files.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "data/label_image.h"

namespace sg::data {

// The bytes of a PNG file, 8-bit RGB without loss, whose text "Software" is SG-Former.
std::vector<uint8_t> encode_png(const Image& image);
// The bytes of a palette PNG whose indices are the labels. A label without a colour is an error.
std::vector<uint8_t> encode_label_png(const LabelImage& labels, std::span<const Rgb> palette);
// Whether a file that begins so is one of these.
bool is_own_png(std::string_view begin);

}  // namespace sg::data
