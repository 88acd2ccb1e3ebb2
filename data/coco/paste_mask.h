// Masks that a network predicts, of a box each, put into the image.
#pragma once
#include <array>
#include <span>

#include "data/coco/rle_mask.h"

namespace sg::data {

// The pixels whose centre has a probability of at least 0.5: of the square `probabilities`,
// row-major and as large as the box x1, y1, x2, y2 (in pixels), bilinear between the centres of its
// cells and 0 beyond them. T: float or double. Empty where the box is, or is no number.
template <class T>
RleMask paste_mask(std::span<const T> probabilities, const std::array<double, 4>& box, int height,
                   int width);

}  // namespace sg::data
