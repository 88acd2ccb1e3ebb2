// y = x W^T + b over the last dimension, as torch.nn.Linear.
// Weights of projections that share an input lie side by side (rows of one W), so that several
// projections are one matmul (nn/parameters.h).
#pragma once
#include "autograd/tape.h"
#include "core/slot.h"

namespace sg {

// x (..., K), w (N, K), b (N) or undefined; f32, bf16, or on CPUs f64 -> (..., N). Where x is bf16,
// w and b may be f32: forward and backward each round them to bf16 when they multiply.
Tensor linear(const Tensor& x, const Tensor& w, const Tensor& b);

namespace kernels {
using LinearFwd = void(Stream&, In x, In w, In b, Out y);
// dx = dy W, dw = dy^T x, db = column sums of dy. dw and db are f32 where x is bf16.
using LinearBwd = void(Stream&, In dy, In x, In w, Grad dx, Grad dw, Grad db);
constinit inline Slot<LinearFwd> linear_fwd{"linear.fwd"};
constinit inline Slot<LinearBwd> linear_bwd{"linear.bwd"};
}  // namespace kernels

}  // namespace sg
