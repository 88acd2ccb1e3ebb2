// Winograd's algorithm for 3x3 convolutions, F(4x4, 3x3): a tile of 4x4 results takes 36
// multiplications a channel, where the direct form takes 144. By oneDNN, in f32, on maps in its own
// layout; copying to and from that layout, and from and to bf16, is included.
//
// The batch is taken in pieces, images or rows of one image, so that memory does not grow with it.
// Besides arguments and results, with W the bytes of w in f32:
// - forward and gradient of the input: 4 W, and W for w in f32 (of bf16) or flipped; and 48 MiB a
//   thread, or what 112 tiles of many channels take.
// - gradient of the weights: W, at least 36 MiB; and 112 MiB a thread, of at most 8 or as many as
//   dw has blocks of 512 filters and 256 channels.
// A row of tiles of a very wide map (144 bytes a tile and channel, of x and y) may take more. What
// a piece is follows from the shape alone, and so do the bits of a result.
#pragma once
#include "core/cpu/convolution.h"

namespace sg {

// As convolution() and its gradients, overwriting y, dx (shape of x) and dw (filters, size); S is
// float or bf16. False, and nothing done, unless windows are 3x3, stride 1, padding 1, channels and
// filters whole vectors, and oneDNN has a kernel for this processor.
template <class S>
bool winograd(const Windows& windows, int64_t filters, const S* x, const S* w, const S* bias, S* y);
template <class S>
bool winograd_input(const Windows& windows, int64_t filters, const S* dy, const S* w, S* dx);
template <class S>
bool winograd_weights(const Windows& windows, int64_t filters, const S* dy, const S* x, float* dw);

}  // namespace sg
