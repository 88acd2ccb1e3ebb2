// Nearest resizing of maps, as torch.nn.functional.interpolate (mode "nearest"): output position i
// is input position floor(i in / out), in float32 as torch computes it.
#pragma once
#include "autograd/tape.h"
#include "core/slot.h"

namespace sg {

// x (B, H, W, C) f32, f64 or bf16 -> (B, height, width, C); `base`, of that shape, is added, as the
// top-down path of a feature pyramid does. Where the size is the same it is x itself, or a plain
// sum.
Tensor nearest_resize(const Tensor& x, int64_t height, int64_t width, const Tensor& base = {});

namespace kernels {
using NearestFwd = void(Stream&, In x, In base, Out y);
using NearestBwd = void(Stream&, In dy, Grad dx);
constinit inline Slot<NearestFwd> nearest_resize_fwd{"nearest_resize.fwd"};
constinit inline Slot<NearestBwd> nearest_resize_bwd{"nearest_resize.bwd"};
}  // namespace kernels

}  // namespace sg
