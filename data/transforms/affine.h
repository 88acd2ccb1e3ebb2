// Rotation, shear and translation with the bytes of Pillow's Image.transform(AFFINE) and
// Image.rotate: bilinear or bicubic (a = -1, unlike resizing) in double, truncated to 8 bits.
#pragma once
#include <array>
#include <cstdint>
#include <vector>

#include "data/image.h"
#include "data/resize.h"

namespace sg::data {

// Maps an output pixel to where it is read: the centre (x, y) of the pixel, in pixels from the
// upper left corner, to (a x + b y + c, d x + e y + f).
struct AffineMatrix {
  double a = 1, b = 0, c = 0, d = 0, e = 1, f = 0;
};

// Counter-clockwise about the centre of an image of this size.
AffineMatrix rotation(double degrees, int height, int width);
inline AffineMatrix shear_x(double factor) { return {.b = factor}; }
inline AffineMatrix shear_y(double factor) { return {.d = factor}; }
// Pixels by which the image moves left and up.
inline AffineMatrix translation(double x, double y) { return {.c = x, .f = y}; }

// Changes the image in place; what is read outside of it becomes `fill`. `scratch` is memory to
// keep between calls. At most 2^31 bytes.
void affine(ImageSpan image, const AffineMatrix& matrix, Filter filter, const Rgb& fill,
            std::vector<uint8_t>& scratch);

}  // namespace sg::data
