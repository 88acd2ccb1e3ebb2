// Golden kinds resize_u8 and photometric: 8-bit images as OpenCV makes them, byte for byte.
#pragma once
#include "tools/golden/case.h"

namespace sg::golden {

std::vector<Row> check_opencv_resize(const Case& c);
std::vector<Row> check_photometric(const Case& c);

}  // namespace sg::golden
