// Bicubic resize of a table of vectors (the positional embedding at another map size): a = -0.75,
// half-pixel centres, edge clamp, no antialias, as torch.nn.functional.interpolate(mode="bicubic",
// align_corners=False).
#pragma once
#include "autograd/tape.h"
#include "core/slot.h"

namespace sg {

// x (H, W, C), f32 or f64 -> (height, width, C). Returns x itself when the size is the same.
Tensor bicubic_resize(const Tensor& x, int64_t height, int64_t width);

namespace kernels {
using BicubicFwd = void(Stream&, In x, Out y);
using BicubicBwd = void(Stream&, In dy, Grad dx);
constinit inline Slot<BicubicFwd> bicubic_resize_fwd{"bicubic_resize.fwd"};
constinit inline Slot<BicubicBwd> bicubic_resize_bwd{"bicubic_resize.bwd"};
}  // namespace kernels

}  // namespace sg
