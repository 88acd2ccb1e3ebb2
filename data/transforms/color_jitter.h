// torchvision's ColorJitter of brightness, contrast and saturation, on images as Pillow has them.
#pragma once
#include <array>

#include "core/rng.h"
#include "data/image.h"

namespace sg::data {

// Of brightness, contrast and saturation, in this order.
struct ColorJitter {
  std::array<double, 3> factors{1, 1, 1};
  std::array<int, 3> order{0, 1, 2};  // in which they are changed
};

// Factors uniform in [max(0, 1 - strength), 1 + strength], in random order.
ColorJitter draw_color_jitter(double strength, Random& random);
// In place.
void color_jitter(ImageSpan image, const ColorJitter& jitter);

}  // namespace sg::data
