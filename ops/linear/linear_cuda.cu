// Matmuls of cuBLASLt: forward reads x and w and writes y, with the bias fused
// where cuBLASLt can (else y is written and read once more). Backward reads dy once for dx, and
// once, with x, for dw; the sums that make db are taken in the same pass where the library can,
// else in one of their own.
#include "core/cuda/biased_gemm.cuh"
#include "core/cuda/column_sums.cuh"
#include "ops/linear/linear.h"

namespace sg {
namespace {

void forward(Stream& stream, In x, In w, In b, Out y) {
  const int64_t n = w.dim(0), k = w.dim(1), rows = x.numel() / k;
  if (rows == 0) return;
  cuda::biased_gemm(stream, {.m = rows,
                             .n = n,
                             .k = k,
                             .in = x.dtype(),
                             .a = {x.raw(), k},
                             .b = {w.raw(), k, true},
                             .out = y.dtype(),
                             .c = y.raw(),
                             .c_stride = n,
                             .bias = b ? b.raw() : nullptr});
}

void backward_input(Stream& stream, In dy, In w, const Grad& dx) {
  const int64_t n = w.dim(0), k = w.dim(1);
  cuda::gemm(stream, {.m = dy.numel() / n,
                      .n = k,
                      .k = n,
                      .in = dy.dtype(),
                      .a = {dy.raw(), n},
                      .b = {w.raw(), k},
                      .out = dx.tensor.dtype(),
                      .c = dx.tensor.raw(),
                      .c_stride = k,
                      .accumulate = dx.accumulate});
}

void backward(Stream& stream, In dy, In x, In w, Grad dx, Grad dw, Grad db) {
  const int64_t n = w.dim(0), k = w.dim(1), rows = x.numel() / k;
  if (rows == 0) {
    for (const Grad& g : {dw, db})
      if (g && !g.accumulate) g.tensor.zero_();
    return;
  }
  if (dx) backward_input(stream, dy, w, dx);
  bool summed = false;
  if (dw) {
    cuda::Gemm matmul{.m = n,
                      .n = k,
                      .k = rows,
                      .in = x.dtype(),
                      .a = {dy.raw(), n, true},
                      .b = {x.raw(), k},
                      .out = Dtype::f32,
                      .c = dw.tensor.data<float>(),
                      .c_stride = k,
                      .accumulate = dw.accumulate};
    if (db && !db.accumulate) {
      matmul.bias_grad = db.tensor.data<float>();
      summed = cuda::fused_gemm(stream, matmul);
      matmul.bias_grad = nullptr;
    }
    if (!summed) cuda::gemm(stream, matmul);
  }
  if (db && !summed)
    dispatch<float, bf16>(dy.dtype(), "linear", [&]<class T>() {
      cuda::column_sums(stream, dy.data<T>(), rows, n,
                        cuda::GradPtr<float>{db.tensor.data<float>(), db.accumulate});
    });
}

const Register r1{kernels::linear_fwd, DeviceType::cuda, forward};
const Register r2{kernels::linear_bwd, DeviceType::cuda, backward};

}  // namespace
}  // namespace sg
