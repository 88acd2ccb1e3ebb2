// Group normalization with one group (the network's "bn"), optionally followed by GELU: mean and
// biased variance over H * W * C of each image, affine per channel, as torch.nn.GroupNorm(1, C).
#pragma once
#include "autograd/tape.h"
#include "core/slot.h"
#include "ops/activation.h"

namespace sg {

// x (B, H, W, C) f32, f64 or bf16; w (C), b (C) of the dtype acc_dtype(x) -> (B, H, W, C).
Tensor group_norm(const Tensor& x, const Tensor& w, const Tensor& b, double eps,
                  Activation act = Activation::none);

namespace kernels {
// mean, rstd (B), of the dtype acc_dtype(x): written, or undefined when not needed.
using GroupNormFwd = void(Stream&, In x, In w, In b, double eps, Activation, Out y, Out mean,
                          Out rstd);
using GroupNormBwd = void(Stream&, In dy, In x, In w, In b, In mean, In rstd, Activation, Grad dx,
                          Grad dw, Grad db);
constinit inline Slot<GroupNormFwd> group_norm_fwd{"group_norm.fwd"};
constinit inline Slot<GroupNormBwd> group_norm_bwd{"group_norm.bwd"};
}  // namespace kernels

}  // namespace sg
