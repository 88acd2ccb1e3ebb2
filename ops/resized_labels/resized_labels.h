// From logits of a coarse map to a label of every pixel: bilinear_resize to the size that the
// network saw, again to the size of the image, and the most probable class, of equal ones the
// first; NaN is never the most probable. Neither of the two resized maps is ever whole in memory:
// on the CPU each thread has one row of w * K logits (K in whole vectors), on a GPU there is none.
// Sides are 1 to kMaxResizeSide (ops/bilinear_resize/axis.h), classes at most 255. No gradient.
#pragma once
#include "core/box.h"
#include "core/slot.h"
#include "core/tensor.h"

namespace sg {

// logits (B, h, w, K) f32, f64 or bf16, -> labels u8 (B, image.height, image.width).
Tensor resized_argmax(const Tensor& logits, ImageSize seen, ImageSize image);

// For several views of one image: adds the softmax over the classes of the resized logits
// (1, h, w, K) to `sum` (image.height, image.width, K) of the dtype acc_dtype(logits). `flipped`:
// the network saw the image mirrored left to right; what is added is mirrored back.
void add_resized_softmax(const Tensor& logits, ImageSize seen, bool flipped, Tensor& sum);
// (H, W, K) -> u8 (H, W): the largest, of equal ones the first.
Tensor argmax(const Tensor& scores);
// scores (H, W, K) f32, or on the CPU f64, and labels u8 (H, W) -> (H, W) of their dtype: the score
// of each pixel's label; 0 where it is no class.
Tensor scores_of(const Tensor& scores, const Tensor& labels);

namespace kernels {
using ResizedArgmax = void(Stream&, In logits, ImageSize seen, Out labels);
using AddResizedSoftmax = void(Stream&, In logits, ImageSize seen, bool flipped, Out sum);
using Argmax = void(Stream&, In scores, Out labels);
using ScoresOf = void(Stream&, In scores, In labels, Out of_labels);
constinit inline Slot<ResizedArgmax> resized_argmax{"resized_argmax"};
constinit inline Slot<AddResizedSoftmax> add_resized_softmax{"add_resized_softmax"};
constinit inline Slot<Argmax> argmax{"argmax"};
constinit inline Slot<ScoresOf> scores_of{"scores_of"};
}  // namespace kernels

}  // namespace sg
