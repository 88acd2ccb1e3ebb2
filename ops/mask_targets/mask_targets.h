// What the mask head is to predict of its RoIs: the masks of their objects, seen through RoIAlign.
#pragma once
#include "autograd/tape.h"
#include "core/slot.h"

namespace sg {

// masks (G, H, W) u8 of 0 and 1; boxes (P, 4) f32 or f64, x1, y1, x2, y2 in pixels of
// the masks; objects (P) i32: the mask of each box -> (P, size, size) u8: 1 where the mean of the
// mask over a bin of the box (ops/roi_align, scale 1), which is clipped to H x W, is at least 0.5.
// Computed in f64, so that the CPU and a device decide alike but for its rounding. size and sides
// as in roi_align. An object out of range, or a box that is not finite, throws ExitCode::data on
// the CPU; on a device the target is 255 throughout, which mask_loss makes NaN.
Tensor mask_targets(const Tensor& masks, const Tensor& boxes, const Tensor& objects, int64_t size);

namespace kernels {
using MaskTargets = void(Stream&, In masks, In boxes, In objects, Out targets);
constinit inline Slot<MaskTargets> mask_targets{"mask_targets"};
}  // namespace kernels

}  // namespace sg
