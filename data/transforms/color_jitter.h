// torchvision's ColorJitter of brightness, contrast and saturation, on images as Pillow has them.
#pragma once
#include "core/rng.h"
#include "data/image.h"

namespace sg::data {

// Each of the three by a factor of its own, uniform in [max(0, 1 - strength), 1 + strength], in
// random order; in place.
void color_jitter(ImageSpan image, double strength, Random& random);

}  // namespace sg::data
