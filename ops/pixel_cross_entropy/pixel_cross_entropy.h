// Cross entropy of each pixel against its label, at the labels' resolution: logits are resized on
// the way (as bilinear_resize does), and never stored at that size.
#pragma once
#include "autograd/tape.h"
#include "core/slot.h"

namespace sg {

// logits (B, h, w, K) f32, f64 or bf16, K <= 255; labels (B, H, W) u8 -> (1) of the dtype
// acc_dtype(logits), on the tape. Pixels of label `ignore` add nothing, but the mean is over all
// B * H * W pixels, as in mmsegmentation (avg_non_ignore = false). A label that is neither below K
// nor `ignore` throws ExitCode::data on the CPU; a device cannot report it: the loss becomes NaN.
Tensor pixel_cross_entropy(const Tensor& logits, const Tensor& labels, int ignore = 255);

}  // namespace sg
