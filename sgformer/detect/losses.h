// What Mask R-CNN learns from, but for the mask head's (ops/mask_loss). All losses are (1), of the
// dtype acc_dtype() of the outputs, and have the weight 1.
#pragma once
#include <span>

#include "sgformer/detect/heads.h"

namespace sg::sgformer {

struct DetectorLoss {
  Tensor classes, boxes;
};

// Anchors that the loss takes, on the device of the outputs, of all images: i32 numbers in the
// order image, level, y, x, anchor; none twice.
struct RpnSamples {
  Tensor positive, negative;  // (P), (N)
  Tensor targets;             // (P, 4): encoded boxes of the positive ones, of the losses' dtype
};
// Binary cross entropy and L1, each summed and divided by the number P + N of samples, at least 1.
DetectorLoss rpn_loss(const RpnHead::Output& outputs, const RpnSamples& samples);

// Proposals that the loss takes, those of all images, on the device of the outputs.
struct RoiSamples {
  Tensor labels;   // (n) i32; `classes` for the background
  Tensor rows;     // (P) i32: positive_rows()
  Tensor targets;  // (P, 4): encoded boxes of the positive ones, of the losses' dtype
};
// Of each proposal that has an object the row of its class's deltas, in (n * classes, 4).
std::vector<int32_t> positive_rows(std::span<const int32_t> labels, int64_t classes);
// Cross entropy, the mean over the n proposals, and L1 of the deltas of the object's class, its sum
// divided by n.
DetectorLoss roi_loss(const BoxHead::Output& outputs, const RoiSamples& samples);

}  // namespace sg::sgformer
