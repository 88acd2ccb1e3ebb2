// Mean over the tokens of a map.
#pragma once
#include "autograd/tape.h"
#include "core/slot.h"

namespace sg {

// x (B, H, W, C), f32, f64 or bf16 -> (B, C).
Tensor mean_pool(const Tensor& x);

namespace kernels {
using MeanPoolFwd = void(Stream&, In x, Out y);
using MeanPoolBwd = void(Stream&, In dy, Grad dx);
constinit inline Slot<MeanPoolFwd> mean_pool_fwd{"mean_pool.fwd"};
constinit inline Slot<MeanPoolBwd> mean_pool_bwd{"mean_pool.bwd"};
}  // namespace kernels

}  // namespace sg
