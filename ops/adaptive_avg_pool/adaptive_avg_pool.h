// Means over a grid of bins, as torch.nn.AdaptiveAvgPool2d: bin i of n covers rows
// [floor(i H / n), ceil((i + 1) H / n)), so bins overlap where n does not divide H.
#pragma once
#include "autograd/tape.h"
#include "core/slot.h"

namespace sg {

// x (B, H, W, C) f32, f64 or bf16 -> (B, side, side, C).
Tensor adaptive_avg_pool(const Tensor& x, int64_t side);

namespace kernels {
using AdaptivePoolFwd = void(Stream&, In x, Out y);
using AdaptivePoolBwd = void(Stream&, In dy, Grad dx);
constinit inline Slot<AdaptivePoolFwd> adaptive_avg_pool_fwd{"adaptive_avg_pool.fwd"};
constinit inline Slot<AdaptivePoolBwd> adaptive_avg_pool_bwd{"adaptive_avg_pool.bwd"};
}  // namespace kernels

}  // namespace sg
