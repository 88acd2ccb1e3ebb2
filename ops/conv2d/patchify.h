// Patchifying convolutions on cuda, in bf16: kernel = stride, so windows do not overlap and
// together cover the map. For conv2d_cuda.cu. The gradient of the bias is as in any convolution,
// not here.
#pragma once
#include "ops/conv2d/conv2d.h"

namespace sg::conv2d_cuda {

// Is the convolution one? `y` is its result, or that one's gradient. Channels are multiples of
// eight, so that no access of 16 bytes spans two pixels, and sizes within 32-bit counts of those.
bool is_patchify(In x, In w, const Conv2dGeometry& g, In y);

void patchify_forward(Stream& stream, In x, In w, In b, const Conv2dGeometry& g, Out y);
void patchify_backward_input(Stream& stream, In dy, In w, const Conv2dGeometry& g, const Grad& dx);
void patchify_backward_weights(Stream& stream, In dy, In x, const Conv2dGeometry& g,
                               const Grad& dw);

}  // namespace sg::conv2d_cuda
