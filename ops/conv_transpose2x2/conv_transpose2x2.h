// Transposed convolution with a kernel of 2 x 2 and stride 2, as torch.nn.ConvTranspose2d: a matmul
// that makes the four pixels of the result that each pixel of the input has (ops/linear), and a
// pass that puts them where they belong.
#pragma once
#include "autograd/tape.h"
#include "core/slot.h"

namespace sg {

// x (B, H, W, Cin), b (Cout), w (4 Cout, Cin): those of the upper left pixel, the upper right, the
// lower left and the lower right; f32, bf16, or on CPUs f64 -> (B, 2H, 2W, Cout). Where x is bf16,
// w and b may be f32, as in linear.
Tensor conv_transpose2x2(const Tensor& x, const Tensor& w, const Tensor& b);

namespace kernels {
// y (B, 2H, 2W, C) from the pixels x (B, H, W, 2, 2, C), plus b (C) of the dtype of y.
using SpreadPixels = void(Stream&, In x, In b, Out y);
// dx as x above; db, of the dtype acc_dtype(dy), the sums of dy over all pixels.
using GatherPixels = void(Stream&, In dy, Grad dx, Grad db);
constinit inline Slot<SpreadPixels> spread_pixels{"conv_transpose2x2.fwd"};
constinit inline Slot<GatherPixels> gather_pixels{"conv_transpose2x2.bwd"};
}  // namespace kernels

}  // namespace sg
