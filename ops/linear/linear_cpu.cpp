#include "core/cpu/column_sums.h"
#include "core/cpu/gemm.h"
#include "ops/linear/linear.h"

namespace sg {
namespace {

void forward(Stream&, In x, In w, In b, Out y) {
  dispatch<float, double>(x.dtype(), "linear", [&]<class T>() {
    const int64_t n = w.dim(0), k = w.dim(1), rows = x.numel() / k;
    gemm<T>(rows, n, k, {x.data<T>(), k}, {w.data<T>(), k, true}, y.data<T>(), false,
            b ? b.data<T>() : nullptr);
  });
}

void backward(Stream&, In dy, In x, In w, Grad dx, Grad dw, Grad db) {
  dispatch<float, double>(x.dtype(), "linear", [&]<class T>() {
    const int64_t n = w.dim(0), k = w.dim(1), rows = x.numel() / k;
    if (dx)
      gemm<T>(rows, k, n, {dy.data<T>(), n}, {w.data<T>(), k}, dx.tensor.data<T>(), dx.accumulate);
    if (dw)
      gemm<T>(n, k, rows, {dy.data<T>(), n, true}, {x.data<T>(), k}, dw.tensor.data<T>(),
              dw.accumulate);
    if (db) column_sums(rows, n, dy.data<T>(), db.tensor.data<T>(), db.accumulate);
  });
}

const Register r1{kernels::linear_fwd, DeviceType::cpu, forward};
const Register r2{kernels::linear_bwd, DeviceType::cpu, backward};

}  // namespace
}  // namespace sg
