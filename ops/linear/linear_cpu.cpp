#include <algorithm>

#include "core/cpu/bf16_products.h"
#include "core/cpu/column_sums.h"
#include "core/cpu/gemm.h"
#include "core/cpu/parallel.h"
#include "ops/linear/linear.h"
#include "ops/reduce_cpu.h"

namespace sg {
namespace {

void forward(Stream&, In x, In w, In b, Out y) {
  dispatch<float, double, bf16>(x.dtype(), "linear", [&]<class S>() {
    const int64_t n = w.dim(0), k = w.dim(1), rows = x.numel() / k;
    gemm<S>(rows, n, k, {x.data<S>(), k}, {w.data<S>(), k, true}, y.data<S>(), false,
            b ? b.data<S>() : nullptr);
  });
}

// Where rows are many, each thread takes chunks of them and makes all three gradients of a chunk,
// so that dy is read from memory once. dw and db are of T, the rest is of S.
void backward(Stream&, In dy, In x, In w, Grad dx, Grad dw, Grad db) {
  constexpr int64_t kGrain = 768, kMany = 4, kSlice = 1024;
  dispatch<float, double, bf16>(x.dtype(), "linear", [&]<class S>() {
    using T = AccType<S>;
    const int64_t n = w.dim(0), k = w.dim(1), rows = x.numel() / k;
    const int chunks = chunks_of(rows, kGrain);
    const S *const dy_data = dy.data<S>(), *const x_data = x.data<S>();
    // AMX multiplies faster than memory delivers: gemm() cuts the sums of dw to what caches hold.
    if (chunks < kMany || (std::is_same_v<S, bf16> && has_amx())) {
      if (dx)
        gemm<S>(rows, k, n, {dy_data, n}, {w.data<S>(), k}, dx.tensor.data<S>(), dx.accumulate);
      if (dw)
        gemm<S>(n, k, rows, {dy_data, n, true}, {x_data, k}, dw.tensor.data<T>(), dw.accumulate);
      if (db) column_sums(rows, n, dy_data, db.tensor.data<T>(), db.accumulate);
      return;
    }
    PartialGrads<T> dw_sums(dw, chunks), db_sums(db, chunks);
    parallel_chunks(rows, kGrain, [&](int chunk, int64_t first, int64_t last) {
      for (int64_t begin = first, m; begin < last; begin += m) {
        m = std::min(kSlice, last - begin);
        const S* const dy_slice = dy_data + begin * n;
        if (dx)
          gemm_on_thread<S>(m, k, n, {dy_slice, n}, {w.data<S>(), k},
                            dx.tensor.data<S>() + begin * k, dx.accumulate);
        if (dw)
          gemm_on_thread<S>(n, k, m, {dy_slice, n, true}, {x_data + begin * k, k}, dw_sums[chunk],
                            dw_sums.accumulate(chunk) || begin > first);
        if (db)
          column_sums(m, n, dy_slice, db_sums[chunk], db_sums.accumulate(chunk) || begin > first);
      }
    });
    dw_sums.finish();
    db_sums.finish();
  });
}

const Register r1{kernels::linear_fwd, DeviceType::cpu, forward};
const Register r2{kernels::linear_bwd, DeviceType::cpu, backward};

}  // namespace
}  // namespace sg
