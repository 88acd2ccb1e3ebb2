// Winograd's algorithm for 3x3 convolutions, F(4x4, 3x3): a block of 4x4 results takes 36
// multiplications a channel, where the direct form takes 144. By oneDNN, in f32, on maps in its own
// layout; copying to and from that layout is included.
#pragma once
#include "core/cpu/convolution.h"

namespace sg {

// As convolution() and its gradients, overwriting y, dx (shape of x) and dw (filters, size). False,
// and nothing done, unless windows are 3x3, stride 1, padding 1, channels and filters whole
// vectors, and oneDNN has a kernel for this processor.
bool winograd(const Windows& windows, int64_t filters, const float* x, const float* w,
              const float* bias, float* y);
bool winograd_input(const Windows& windows, int64_t filters, const float* dy, const float* w,
                    float* dx);
bool winograd_weights(const Windows& windows, int64_t filters, const float* dy, const float* x,
                      float* dw);

}  // namespace sg
