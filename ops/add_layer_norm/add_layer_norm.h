// Residual addition with stochastic depth and the layer normalization that follows it, in one pass:
//   y = x + keep[sample] * branch,  n = layer_norm(y).
// Forward reads x and branch and writes y and n; backward reads the gradients of both and y, and
// writes the gradients of x and branch.
#pragma once
#include "autograd/tape.h"
#include "core/slot.h"

namespace sg {

struct AddLayerNorm {
  Tensor sum, norm;  // y, n
};

// x, branch (B, ..., C) of one shape, f32, f64 or bf16; keep (B) of the dtype acc_dtype(x), without
// gradient, or undefined for a plain sum; w (C), b (C) of the dtype acc_dtype(x).
AddLayerNorm add_layer_norm(const Tensor& x, const Tensor& branch, const Tensor& keep,
                            const Tensor& w, const Tensor& b, double eps);

namespace kernels {
// mean, rstd (rows), of the dtype acc_dtype(x): written, or undefined when not needed.
using AddLayerNormFwd = void(Stream&, In x, In branch, In keep, In w, In b, double eps, Out y,
                             Out n, Out mean, Out rstd);
// dx = dy + the gradient through the norm, which is always written; dbranch (+)= keep * dx. dy is
// undefined where only n has a gradient; dbranch is wanted only with a keep. branch_sums (C): the
// column sums of keep * dx, or undefined.
using AddLayerNormBwd = void(Stream&, In dy, In dn, In y, In keep, In w, In b, In mean, In rstd,
                             Out dx, Grad dbranch, Out branch_sums, Grad dw, Grad db);
constinit inline Slot<AddLayerNormFwd> add_layer_norm_fwd{"add_layer_norm.fwd"};
constinit inline Slot<AddLayerNormBwd> add_layer_norm_bwd{"add_layer_norm.bwd"};
}  // namespace kernels

}  // namespace sg
