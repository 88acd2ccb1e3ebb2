// Point operations on images, in place, with the bytes of Pillow's ImageOps (and timm's
// solarize_add).
#pragma once
#include <array>
#include <cstdint>

#include "data/image.h"

namespace sg::data {

using LookupTable = std::array<uint8_t, 256>;
void apply_lut(ImageSpan image, const LookupTable& all_channels);

void invert(ImageSpan image);
// Keeps the upper `bits` of each value: 0 makes the image black, 8 and more leave it.
void posterize(ImageSpan image, int bits);
// Inverts values from `threshold` on: 0 inverts all, 256 and more none.
void solarize(ImageSpan image, int threshold);
// Adds to values below 128, up to 255; `add` is 0 or more.
void solarize_add(ImageSpan image, int add);
// Stretches each channel to 0 to 255.
void autocontrast(ImageSpan image);
// Makes the values of each channel equally frequent.
void equalize(ImageSpan image);

}  // namespace sg::data
