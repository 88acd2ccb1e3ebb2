// Images to JPEG files.
#pragma once
#include <cstdint>
#include <vector>

#include "data/image.h"

namespace sg::data {

enum class ChromaSampling {
  quarter,  // 4:2:0, a colour for 2 x 2 pixels, as Pillow writes by default
  full      // 4:4:4
};

// The bytes of a baseline JPEG, by libjpeg-turbo; quality 1 to 100.
std::vector<uint8_t> encode_jpeg(const Image& image, int quality, ChromaSampling sampling);

}  // namespace sg::data
