#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/layer_norm/layer_norm_cpu.cpp"
#include <hwy/foreach_target.h>

#include "core/cpu/parallel.h"
#include "core/cpu/simd_register.h"
#include "ops/layer_norm/layer_norm.h"
#include "ops/layer_norm/rows-inl.h"
#include "ops/reduce_cpu.h"

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {
namespace {

void forward(Stream&, In x, In w, In b, double eps, Activation act, Out y, Out mean, Out rstd) {
  dispatch<float, double, bf16>(x.dtype(), "layer_norm", [&]<class S>() HWY_ATTR {
    using T = AccType<S>;
    const int64_t c = x.dim(-1), rows = c ? x.numel() / c : 0;
    parallel_for(rows, kRowGrain, [&](int64_t begin, int64_t end) HWY_ATTR {
      each_row_block<S>(begin, end, c, [&](int64_t n, int64_t r) HWY_ATTR {
        normalize_rows(x.data<S>() + r * c, n, c, w.data<T>(), b.data<T>(), T(eps), act,
                       y.data<S>() + r * c, mean ? mean.data<T>() + r : nullptr,
                       rstd ? rstd.data<T>() + r : nullptr);
      });
    });
  });
}

void backward(Stream&, In dy, In x, In w, In b, In mean, In rstd, Activation act, Grad dx, Grad dw,
              Grad db) {
  dispatch<float, double, bf16>(x.dtype(), "layer_norm", [&]<class S>() HWY_ATTR {
    using T = AccType<S>;
    const int64_t c = x.dim(-1), rows = c ? x.numel() / c : 0;
    const int chunks = chunks_of(rows, kRowGrain);
    Tensor scratch = zeros({chunks, 3, c}, dtype_of<T>());
    parallel_chunks(rows, kRowGrain, [&](int chunk, int64_t begin, int64_t end) HWY_ATTR {
      T* const dwp = scratch.data<T>() + chunk * 3 * c;  // then db, and dz of one row
      for (int64_t r = begin; r < end; ++r) {
        S* const dxp = dx ? dx.tensor.data<S>() + r * c : nullptr;
        row_gradient(dy.data<S>() + r * c, x.data<S>() + r * c, c, w.data<T>(), b.data<T>(),
                     mean.data<T>()[r], rstd.data<T>()[r], act, dwp + 2 * c, dwp, dwp + c, bool(dx),
                     [&](auto d, int64_t i, auto& v) SG_INLINE_ATTR {
                       if (dx.accumulate)
                         each_vector(d, i, v, [&](int64_t at, auto u) SG_INLINE_ATTR {
                           return hn::Add(u, load(d, dxp + at));
                         });
                       store(v, d, dxp + i, int64_t(hn::Lanes(d)));
                     });
      }
    });
    sum_chunks(scratch.data<T>(), chunks, 3 * c, dw);
    sum_chunks(scratch.data<T>() + c, chunks, 3 * c, db);
  });
}

}  // namespace
}  // namespace sg::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sg {
namespace {
SG_REGISTER_SIMD(kernels::layer_norm_fwd, forward);
SG_REGISTER_SIMD(kernels::layer_norm_bwd, backward);
}  // namespace
}  // namespace sg
#endif
