// Layer normalization over the last dimension, optionally followed by GELU.
//   y = act((x - mean) / sqrt(var + eps) * w + b), var biased, as torch.nn.LayerNorm.
// Backward recomputes the normalized x from the saved mean and 1/std, one pair a row.
#pragma once
#include "autograd/tape.h"
#include "core/slot.h"
#include "ops/activation.h"

namespace sg {

// x (..., C) f32, f64 or bf16; w (C), b (C) of the dtype acc_dtype(x) -> (..., C).
Tensor layer_norm(const Tensor& x, const Tensor& w, const Tensor& b, double eps,
                  Activation act = Activation::none);

namespace kernels {
// mean, rstd (rows), of the dtype acc_dtype(x): written, or undefined when not needed.
using LayerNormFwd = void(Stream&, In x, In w, In b, double eps, Activation, Out y, Out mean,
                          Out rstd);
using LayerNormBwd = void(Stream&, In dy, In x, In w, In b, In mean, In rstd, Activation, Grad dx,
                          Grad dw, Grad db);
constinit inline Slot<LayerNormFwd> layer_norm_fwd{"layer_norm.fwd"};
constinit inline Slot<LayerNormBwd> layer_norm_bwd{"layer_norm.bwd"};
}  // namespace kernels

}  // namespace sg
