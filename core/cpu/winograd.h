// Winograd's algorithm for 3x3 convolutions, F(4x4, 3x3): a tile of 4x4 results takes 36
// multiplications a channel, where the direct form takes 144. By oneDNN, in f32, on maps in its own
// layout; copying to and from that layout is included.
//
// The batch is taken in pieces, images or rows of one image, so that memory does not grow with it.
// Besides arguments and results, with U = 4 times the bytes of w:
// - forward and gradient of the input: U, and w once more (flipped) for the latter; 160 MiB.
// - gradient of the weights: the bytes of w, at least 36 MiB; and 112 MiB a thread, of at most 8 or
//   as many as dw has blocks of 512 filters and 256 channels.
// A row of tiles of a very wide map (144 bytes a tile and channel, of x and y) may take more. What
// a piece is follows from the shape alone, and so do the bits of a result.
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
