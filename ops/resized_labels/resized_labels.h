// From logits of a coarse map to a label of every pixel: bilinear_resize to the size that the
// network saw, again to the size of the image, and the most probable class, of equal ones the
// first. Done in strips: neither of the two resized maps is ever whole in memory. No gradient.
#pragma once
#include "core/box.h"
#include "core/slot.h"
#include "core/tensor.h"

namespace sg {

// logits (B, h, w, K) f32, f64 or bf16, K <= 255 -> labels u8 (B, image.height, image.width).
Tensor resized_argmax(const Tensor& logits, ImageSize seen, ImageSize image);

// For several views of one image: adds the softmax over the classes of the resized logits
// (1, h, w, K) to `sum` (image.height, image.width, K) of the dtype acc_dtype(logits). `flipped`:
// the network saw the image mirrored left to right; what is added is mirrored back.
void add_resized_softmax(const Tensor& logits, ImageSize seen, bool flipped, Tensor& sum);
// (H, W, K) -> u8 (H, W): the largest, of equal ones the first.
Tensor argmax(const Tensor& scores);

}  // namespace sg
