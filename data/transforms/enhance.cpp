#include "data/transforms/enhance.h"

#include <algorithm>
#include <cstring>

#include "data/transforms/enhance_kernels.h"
#include "data/transforms/image_ops.h"

namespace sg::data {
namespace {

// Each value blended with a constant.
void blend_constant(ImageSpan image, int degenerate, float factor) {
  LookupTable lut;
  for (int v = 0; v < 256; ++v) {
    const float blended = float(degenerate) + factor * float(v - degenerate);
    lut[size_t(v)] = uint8_t(std::clamp(blended, 0.0f, 255.0f));
  }
  apply_lut(image, lut);
}

}  // namespace

void adjust_brightness(ImageSpan image, double factor) { blend_constant(image, 0, float(factor)); }

void adjust_contrast(ImageSpan image, double factor) {
  uint64_t sum = 0;
  for (int y = 0; y < image.height; ++y)
    sum += sum_grey(image.pixels + size_t(y) * image.row_bytes(), size_t(image.width));
  const double mean = double(sum) / (double(image.height) * image.width);
  blend_constant(image, int(mean + 0.5), float(factor));
}

void adjust_saturation(ImageSpan image, double factor) {
  saturate_pixels(image.pixels, size_t(image.height) * size_t(image.width), float(factor));
}

void adjust_sharpness(ImageSpan image, double factor, std::vector<uint8_t>& scratch) {
  if (image.height < 3 || image.width < 3) return;  // all border
  const size_t pitch = image.row_bytes();
  scratch.resize(image.bytes() + kSharpenSlack);
  std::memcpy(scratch.data(), image.pixels, image.bytes());
  for (int y = 1; y < image.height - 1; ++y) {
    const size_t at = size_t(y) * pitch + 3;
    const uint8_t* row = scratch.data() + at;
    sharpen_row(row - pitch, row, row + pitch, pitch - 6, float(factor), image.pixels + at);
  }
}

}  // namespace sg::data
