// Blends of an image with a degenerate one (black, grey, smoothed), in place, with the bytes of
// Pillow's ImageEnhance: d + factor (v - d) in float, clipped and truncated. Factor 1 leaves the
// image, 0 takes the property away, more than 1 strengthens it. Names are torchvision's.
#pragma once
#include <cstdint>
#include <vector>

#include "data/image.h"

namespace sg::data {

void adjust_brightness(ImageSpan image, double factor);  // d: black
void adjust_contrast(ImageSpan image, double factor);    // d: the mean grey, rounded
void adjust_saturation(ImageSpan image, double factor);  // d: the pixel's grey; Pillow's Color
// d: smoothed 3 x 3, except the pixels at the border. `scratch` is memory to keep between calls.
void adjust_sharpness(ImageSpan image, double factor, std::vector<uint8_t>& scratch);

}  // namespace sg::data
