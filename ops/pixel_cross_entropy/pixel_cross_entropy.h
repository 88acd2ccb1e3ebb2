// Cross entropy of each pixel against its label, at the labels' resolution: logits are resized on
// the way (as bilinear_resize does), and never stored at that size: backward keeps two numbers a
// pixel and computes the probabilities again.
#pragma once
#include "autograd/tape.h"
#include "core/slot.h"

namespace sg {

// logits (B, h, w, K) f32, f64 or bf16, K <= 255; labels (B, H, W) u8 -> (1) of the dtype
// acc_dtype(logits), on the tape. Pixels of label `ignore` add nothing, but the mean is over all
// B * H * W pixels, as in mmsegmentation (avg_non_ignore = false). A label that is neither below K
// nor `ignore` throws ExitCode::data on the CPU; a device cannot report it: the loss becomes NaN.
Tensor pixel_cross_entropy(const Tensor& logits, const Tensor& labels, int ignore = 255);

namespace kernels {
// softmax (B, H, W, 2), kept for backward, or undefined: of each pixel that counts about the
// largest of its resized logits z, and 1 / sum exp(z - that). loss is the mean.
using PixelCrossEntropyFwd = void(Stream&, In logits, In labels, int ignore, Out softmax, Out loss);
using PixelCrossEntropyBwd = void(Stream&, In dloss, In logits, In labels, int ignore, In softmax,
                                  Grad dlogits);
constinit inline Slot<PixelCrossEntropyFwd> pixel_cross_entropy_fwd{"pixel_cross_entropy.fwd"};
constinit inline Slot<PixelCrossEntropyBwd> pixel_cross_entropy_bwd{"pixel_cross_entropy.bwd"};
}  // namespace kernels

}  // namespace sg
