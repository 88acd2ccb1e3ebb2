// Dense 2-D convolution over channels-last maps, as windows that slide over each image.
#pragma once
#include <cstdint>

#include "core/dtype.h"

namespace sg {

// Window (r, c) of an image starts at its row r * stride - top and column c * stride - left; what
// lies outside the image is zero.
struct Windows {
  int64_t batch, height, width, channels;  // x
  int64_t rows, columns;                   // windows of an image
  int64_t kernel_height, kernel_width, stride, top, left;
  int64_t size() const { return kernel_height * kernel_width * channels; }
  // Rows and columns of the last windows beyond the image; below 0 where they do not reach its end.
  int64_t bottom() const { return (rows - 1) * stride + kernel_height - height - top; }
  int64_t right() const { return (columns - 1) * stride + kernel_width - width - left; }
};

// y (batch, rows, columns, filters) = the windows times w (filters, size) + bias (filters) if
// given, by oneDNN. S is float or bf16, with sums in f32.
template <class S>
void convolution(const Windows& windows, int64_t filters, const S* x, const S* w, const S* bias,
                 S* y);

// Its gradient of the input, dx (shape of x), overwritten.
void convolution_input(const Windows& windows, int64_t filters, const bf16* dy, const bf16* w,
                       bf16* dx);

// Its gradient of the weights, dw (filters, size), overwritten: sums in f32, whose order the sizes
// alone decide. On no side may there be more padding than half a window. Takes memory of the size
// of dw for each of at most 8 parts (4 if dw has more than 16 MiB); and for each thread once more,
// beside copies of maps of about twice that or 2 MiB.
void convolution_weights(const Windows& windows, int64_t filters, const bf16* dy, const bf16* x,
                         float* dw);

}  // namespace sg
