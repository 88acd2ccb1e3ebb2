// A thread some lines of x; of each pixel of x two times two neighbours of y are one copy each.
#include "core/acc_type.h"
#include "core/cpu/column_sums.h"
#include "core/cpu/parallel.h"
#include "ops/conv_transpose2x2/conv_transpose2x2.h"

namespace sg {
namespace {

// f(i, at): the 2 c elements at i of the pixels are those at `at` of y, for both rows of each.
template <class F>
void each_pair(In y, const F& f) {
  const int64_t w = y.dim(2) / 2, c = y.dim(3);
  parallel_for(y.dim(0) * y.dim(1) / 2, 1, [&](int64_t begin, int64_t end) {
    for (int64_t line = begin; line < end; ++line)
      for (int64_t row = 0; row < 2; ++row)
        for (int64_t q = 0; q < w; ++q)
          f(((line * w + q) * 2 + row) * 2 * c, ((line * 2 + row) * w + q) * 2 * c);
  });
}

void spread(Stream&, In x, In b, Out y) {
  dispatch<float, double, bf16>(y.dtype(), "conv_transpose2x2", [&]<class S>() {
    using T = AccType<S>;
    const int64_t c = y.dim(3);
    const S *const from = x.data<S>(), *const bias = b.data<S>();
    S* const to = y.data<S>();
    each_pair(y, [=](int64_t i, int64_t at) {
      for (int64_t part = 0; part < 2 * c; part += c) {
#pragma omp simd
        for (int64_t k = 0; k < c; ++k) to[at + part + k] = S(T(from[i + part + k]) + T(bias[k]));
      }
    });
  });
}

void gather(Stream&, In dy, Grad dx, Grad db) {
  dispatch<float, double, bf16>(dy.dtype(), "conv_transpose2x2", [&]<class S>() {
    using T = AccType<S>;
    const int64_t c = dy.dim(3);
    const S* const from = dy.data<S>();
    if (db) column_sums(dy.numel() / c, c, from, db.tensor.data<T>(), db.accumulate);
    if (!dx) return;
    S* const to = dx.tensor.data<S>();
    each_pair(dy, [=, accumulate = dx.accumulate](int64_t i, int64_t at) {
      if (!accumulate) {
        std::copy_n(from + at, 2 * c, to + i);
        return;
      }
#pragma omp simd
      for (int64_t k = 0; k < 2 * c; ++k) to[i + k] = S(T(to[i + k]) + T(from[at + k]));
    });
  });
}

const Register r_fwd{kernels::spread_pixels, DeviceType::cpu, spread};
const Register r_bwd{kernels::gather_pixels, DeviceType::cpu, gather};

}  // namespace
}  // namespace sg
