// Depthwise 3x3 convolution, channels last, padding 1, and the forms that the network fuses it
// into.
#pragma once
#include "autograd/tape.h"
#include "core/slot.h"

namespace sg {

// x (B, H, W, C) f32, f64 or bf16; w (3, 3, C), b (C) or undefined, of the dtype acc_dtype(x);
// stride 1 or 2
// -> (B, ceil(H / stride), ceil(W / stride), C).
Tensor depthwise3x3(const Tensor& x, const Tensor& w, const Tensor& b, int stride);

// GELU(x + depthwise3x3(x)), stride 1: the middle of the MLP in one pass. Backward recomputes the
// pre-activation from x instead of keeping it.
Tensor depthwise3x3_add_gelu(const Tensor& x, const Tensor& w, const Tensor& b);

namespace kernels {
// Some columns of a map whose rows are `ld` elements apart: channels [column, column + C) of
// (B, H, W, ld). A whole map has column 0 and ld = C.
struct Columns {
  int64_t column = 0, ld = 0;
};
enum class DepthwiseForm {
  plain,     // y = dw(x) + b
  add_into,  // y += dw(x) + b (LePE, added to the output of attention); stride 1
  add_gelu,  // y = GELU(x + dw(x) + b); stride 1
};
// x's channels are the columns `cols` of x; y is a whole map of C = w.dim(2) channels.
using DepthwiseFwd = void(Stream&, In x, Columns cols, In w, In b, int stride, DepthwiseForm,
                          Out y);
// dx is written to (or added to) the columns `cols` of dx.tensor, which has x's shape; its other
// columns are left alone. dx_sums (C), with a dx: its column sums without what was there before, or
// undefined. add_into has the gradients of plain.
using DepthwiseBwd = void(Stream&, In dy, In x, Columns cols, In w, In b, int stride, DepthwiseForm,
                          Grad dx, Out dx_sums, Grad dw, Grad db);
constinit inline Slot<DepthwiseFwd> depthwise3x3_fwd{"depthwise3x3.fwd"};
constinit inline Slot<DepthwiseBwd> depthwise3x3_bwd{"depthwise3x3.bwd"};
}  // namespace kernels

}  // namespace sg
