// Images in one row.
#pragma once
#include <vector>

#include "data/image.h"

namespace sg::data {

constexpr int kSideBySideGap = 6;  // white columns between two images

// From left to right; they must have one height.
Image side_by_side(const std::vector<Image>& images);

}  // namespace sg::data
