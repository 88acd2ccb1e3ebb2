// Dense 2-D convolution over channels-last maps, as windows that slide over each image.
#pragma once
#include <cstdint>

namespace sg {

// Window (r, c) of an image starts at its row r * stride - top and column c * stride - left; what
// lies outside the image is zero.
struct Windows {
  int64_t batch, height, width, channels;  // x
  int64_t rows, columns;                   // windows of an image
  int64_t kernel_height, kernel_width, stride, top, left;
  int64_t size() const { return kernel_height * kernel_width * channels; }
};

// y (batch, rows, columns, filters) = the windows times w (filters, size) + bias (filters) if
// given, by oneDNN.
void convolution(const Windows& windows, int64_t filters, const float* x, const float* w,
                 const float* bias, float* y);

}  // namespace sg
