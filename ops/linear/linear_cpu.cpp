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

// Where rows are many, each thread takes chunks of them: dy is read from memory once, not by each
// of the three, and threads meet once.
void backward(Stream&, In dy, In x, In w, Grad dx, Grad dw, Grad db) {
  constexpr int64_t kGrain = 768, kMany = 4, kSlice = 1024;
  dispatch<float, double>(x.dtype(), "linear", [&]<class T>() {
    const int64_t n = w.dim(0), k = w.dim(1), rows = x.numel() / k;
    const int chunks = chunks_of(rows, kGrain);
    const T *const dy_data = dy.data<T>(), *const x_data = x.data<T>();
    if (chunks < kMany) {
      if (dx)
        gemm<T>(rows, k, n, {dy_data, n}, {w.data<T>(), k}, dx.tensor.data<T>(), dx.accumulate);
      if (dw)
        gemm<T>(n, k, rows, {dy_data, n, true}, {x_data, k}, dw.tensor.data<T>(), dw.accumulate);
      if (db) column_sums(rows, n, dy_data, db.tensor.data<T>(), db.accumulate);
      return;
    }
    Parts<T> dw_parts(dw, chunks), db_parts(db, chunks);
    parallel_chunks(rows, kGrain, [&](int chunk, int64_t first, int64_t last) {
      for (int64_t begin = first, m; begin < last; begin += m) {
        m = std::min(kSlice, last - begin);
        const T* const dy_slice = dy_data + begin * n;
        if (dx)
          gemm_on_thread<T>(m, k, n, {dy_slice, n}, {w.data<T>(), k},
                            dx.tensor.data<T>() + begin * k, dx.accumulate);
        if (dw)
          gemm_on_thread<T>(n, k, m, {dy_slice, n, true}, {x_data + begin * k, k}, dw_parts[chunk],
                            dw_parts.begun(chunk) || begin > first);
        if (db)
          column_sums(m, n, dy_slice, db_parts[chunk], db_parts.begun(chunk) || begin > first);
      }
    });
    dw_parts.finish();
    db_parts.finish();
  });
}

const Register r1{kernels::linear_fwd, DeviceType::cpu, forward};
const Register r2{kernels::linear_bwd, DeviceType::cpu, backward};

}  // namespace
}  // namespace sg
