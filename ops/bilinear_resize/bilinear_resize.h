// Bilinear resizing of maps, align_corners = false, as torch.nn.functional.interpolate: output
// position i reads input position max(0, (i + 0.5) in / out - 0.5) and the one after it.
#pragma once
#include <vector>

#include "autograd/tape.h"
#include "core/slot.h"

namespace sg {

// x (B, H, W, C) f32, f64 or bf16 -> (B, height, width, C). `base`, of that shape, is added: what a
// finer map is given of a coarser one. Where the size is the same it is x itself, or a plain sum.
// Sides are 1 to kMaxResizeSide.
Tensor bilinear_resize(const Tensor& x, int64_t height, int64_t width, const Tensor& base = {});

// Maps of any sizes, each resized to height x width, side by side in the last dimension: each is
// written at once where it belongs.
Tensor bilinear_resize_concat(const std::vector<Tensor>& maps, int64_t height, int64_t width);

namespace kernels {
// Channels [begin, begin + C) of y are the resized x (+ base, which has the shape of y). The size
// differs.
using BilinearFwd = void(Stream&, In x, In base, int64_t begin, Out y);
// dx from channels [begin, begin + C) of dy.
using BilinearBwd = void(Stream&, In dy, int64_t begin, Grad dx);
constinit inline Slot<BilinearFwd> bilinear_resize_fwd{"bilinear_resize.fwd"};
constinit inline Slot<BilinearBwd> bilinear_resize_bwd{"bilinear_resize.bwd"};
}  // namespace kernels

}  // namespace sg
