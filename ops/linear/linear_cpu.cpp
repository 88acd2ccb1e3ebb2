#include <algorithm>

#include "core/cpu/column_sums.h"
#include "core/cpu/gemm.h"
#include "core/cpu/parallel.h"
#include "ops/linear/linear.h"
#include "ops/reduce_cpu.h"

namespace sg {
namespace {

void forward(Stream&, In x, In w, In b, Out y) {
  dispatch<float, double>(x.dtype(), "linear", [&]<class T>() {
    const int64_t n = w.dim(0), k = w.dim(1), rows = x.numel() / k;
    gemm<T>(rows, n, k, {x.data<T>(), k}, {w.data<T>(), k, true}, y.data<T>(), false,
            b ? b.data<T>() : nullptr);
  });
}

// Where rows are many, each thread takes its own, in slices: dy is read from memory once, not by
// each of the three, and threads meet once.
void backward(Stream&, In dy, In x, In w, Grad dx, Grad dw, Grad db) {
  constexpr int64_t kSlice = 1024;
  dispatch<float, double>(x.dtype(), "linear", [&]<class T>() {
    const int64_t n = w.dim(0), k = w.dim(1), rows = x.numel() / k;
    const bool many = rows >= kSlice * num_threads();
    const int parts = many ? num_threads() : 1;
    const Parts<T> dw_parts(dw, parts), db_parts(db, parts);
    parallel_for(parts, 1, [&](int64_t part, int64_t) {
      const int64_t first = rows * part / parts, last = rows * (part + 1) / parts;
      int64_t begin = first;
      do {
        const int64_t m = many ? std::min(kSlice, last - begin) : rows;
        const T* const dy_slice = dy.data<T>() + begin * n;
        if (dx)
          gemm<T>(m, k, n, {dy_slice, n}, {w.data<T>(), k}, dx.tensor.data<T>() + begin * k,
                  dx.accumulate);
        if (dw)
          gemm<T>(n, k, m, {dy_slice, n, true}, {x.data<T>() + begin * k, k}, dw_parts[part],
                  dw_parts.begun(part) || begin > first);
        if (db) column_sums(m, n, dy_slice, db_parts[part], db_parts.begun(part) || begin > first);
        begin += m;
      } while (begin < last);
    });
    dw_parts.finish();
    db_parts.finish();
  });
}

const Register r1{kernels::linear_fwd, DeviceType::cpu, forward};
const Register r2{kernels::linear_bwd, DeviceType::cpu, backward};

}  // namespace
}  // namespace sg
