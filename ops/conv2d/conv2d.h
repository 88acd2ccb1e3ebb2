// Dense 2-D convolution (cross-correlation), channels last, for the stem (3x3), spatial reductions
// (kernel = stride) and heads (3x3 of wide channels). A 1x1 convolution is ops/linear; depthwise is
// ops/depthwise3x3.
//
// Files: conv2d_cpu.cpp is for CPUs; conv2d_cuda.cu, for GPUs, chooses among four ways.
// - im2col.cuh: windows are copied to the rows of a matrix; any shape and dtype.
// - implicit_gemm.cuh, implicit_gemm_weights.cuh, conv3x3.cuh: 3x3 in bf16 without that matrix.
// - patchify.h, patchify.cuh, patchify_cuda.cu: kernel = stride in bf16, read and written in place.
// - wide.cuh: cuDNN, where channels are wide and the library is there; f32 or bf16.
// tiles.cuh is what implicit GEMM and patchify have in common, tuning_cuda.h how blocks divide the
// work.
#pragma once
#include <string>
#include <vector>

#include "autograd/tape.h"
#include "core/slot.h"

namespace sg {

struct Conv2dGeometry {
  int stride = 1;
  int top = 0, left = 0, bottom = 0, right = 0;  // rows and columns of zeros around the map
};

// x (B, H, W, Cin), w (Cout, kh, kw, Cin), b (Cout) or undefined; f32, bf16, or on CPUs f64
// -> (B, (H + top + bottom - kh) / stride + 1, ..., Cout). Throws when the kernel does not fit.
// Where x is bf16, w and b may be f32: forward and backward each round them to bf16 when they
// multiply.
Tensor conv2d(const Tensor& x, const Tensor& w, const Tensor& b, const Conv2dGeometry& geometry);

// For the log of a run: which library computes convolutions on the device, in its version, and what
// it chose for each convolution so far. Their bits depend on it.
std::vector<std::string> conv2d_choices(Device device);

namespace kernels {
using Conv2dFwd = void(Stream&, In x, In w, In b, const Conv2dGeometry&, Out y);
// dw and db are f32 where x is bf16, and so are the sums that make them. cuDNN, which has no engine
// from bf16 to f32, rounds its sum of dw to bf16 once, as PyTorch does (wide.cuh): 2^-9 of it, no
// more than each of its terms carries. Our own kernels do not. Sums over backward passes are f32.
using Conv2dBwd = void(Stream&, In dy, In x, In w, const Conv2dGeometry&, Grad dx, Grad dw,
                       Grad db);
using Conv2dChoices = void(Stream&, std::vector<std::string>& lines);
constinit inline Slot<Conv2dFwd> conv2d_fwd{"conv2d.fwd"};
constinit inline Slot<Conv2dBwd> conv2d_bwd{"conv2d.bwd"};
constinit inline Slot<Conv2dChoices> conv2d_choices{"conv2d.choices"};
}  // namespace kernels

}  // namespace sg
