#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/add_layer_norm/add_layer_norm_cpu.cpp"
#include <hwy/foreach_target.h>

#include "core/cpu/parallel.h"
#include "core/cpu/simd_register.h"
#include "ops/add_layer_norm/add_layer_norm.h"
#include "ops/layer_norm/rows-inl.h"
#include "ops/reduce_cpu.h"

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {
namespace {

// keep of the sample to which row r belongs.
template <class T>
T keep_of(In keep, In x, int64_t r, int64_t rows) {
  return keep ? keep.data<T>()[r / (rows / x.dim(0))] : T(1);
}

void forward(Stream&, In x, In branch, In keep, In w, In b, double eps, Out y, Out n, Out mean,
             Out rstd) {
  dispatch<float, double, bf16>(x.dtype(), "add_layer_norm", [&]<class S>() HWY_ATTR {
    using T = AccType<S>;
    const int64_t c = x.dim(-1), rows = c ? x.numel() / c : 0;
    parallel_for(rows, kRowGrain, [&](int64_t begin, int64_t end) HWY_ATTR {
      each_row_block<S>(begin, end, c, [&](int64_t count, int64_t first) HWY_ATTR {
        for (int64_t r = first; r < first + count; ++r) {
          const S *xp = x.data<S>() + r * c, *bp = branch.data<S>() + r * c;
          const T k = keep_of<T>(keep, x, r, rows);
          store_lanes<T>(c, y.data<S>() + r * c, [&](auto d, int64_t i) SG_INLINE_ATTR {
            return hn::Add(load(d, xp + i), hn::Mul(hn::Set(d, k), load(d, bp + i)));
          });
        }
        normalize_rows(y.data<S>() + first * c, count, c, w.data<T>(), b.data<T>(), T(eps),
                       Activation::none, n.data<S>() + first * c,
                       mean ? mean.data<T>() + first : nullptr,
                       rstd ? rstd.data<T>() + first : nullptr);
      });
    });
  });
}

void backward(Stream&, In dy, In dn, In y, In keep, In w, In b, In mean, In rstd, Out dx,
              Grad dbranch, Out branch_sums, Grad dw, Grad db) {
  dispatch<float, double, bf16>(y.dtype(), "add_layer_norm", [&]<class S>() HWY_ATTR {
    using T = AccType<S>;
    const int64_t c = y.dim(-1), rows = c ? y.numel() / c : 0;
    const int chunks = chunks_of(rows, kRowGrain);
    Tensor scratch = zeros({chunks, 4, c}, dtype_of<T>());
    parallel_chunks(rows, kRowGrain, [&](int chunk, int64_t begin, int64_t end) HWY_ATTR {
      T* const dwp = scratch.data<T>() + chunk * 4 * c;  // then db, sums, and dz of one row
      T* const sums = branch_sums ? dwp + 2 * c : nullptr;
      for (int64_t r = begin; r < end; ++r) {
        const S* const dyp = dy ? dy.data<S>() + r * c : nullptr;
        S* const dxp = dx.data<S>() + r * c;
        S* const to = dbranch ? dbranch.tensor.data<S>() + r * c : nullptr;
        const T k = keep_of<T>(keep, y, r, rows);
        row_gradient(dn.data<S>() + r * c, y.data<S>() + r * c, c, w.data<T>(), b.data<T>(),
                     mean.data<T>()[r], rstd.data<T>()[r], Activation::none, dwp + 3 * c, dwp,
                     dwp + c, true, [&](auto d, int64_t i, auto& v) SG_INLINE_ATTR {
                       const int64_t lanes = int64_t(hn::Lanes(d));
                       if (dyp)
                         each_vector(d, i, v, [&](int64_t at, auto u) SG_INLINE_ATTR {
                           return hn::Add(u, load(d, dyp + at));
                         });
                       store(v, d, dxp + i, lanes);
                       if (!to && !sums) return;
                       each_vector(d, i, v, [&](int64_t at, auto u) SG_INLINE_ATTR {
                         u = hn::Mul(hn::Set(d, k), u);
                         if (sums) hn::StoreU(hn::Add(u, hn::LoadU(d, sums + at)), d, sums + at);
                         return to && dbranch.accumulate ? hn::Add(u, load(d, to + at)) : u;
                       });
                       if (to) store(v, d, to + i, lanes);
                     });
      }
    });
    sum_chunks(scratch.data<T>(), chunks, 4 * c, dw);
    sum_chunks(scratch.data<T>() + c, chunks, 4 * c, db);
    sum_chunks(scratch.data<T>() + 2 * c, chunks, 4 * c, Grad{branch_sums});
  });
}

}  // namespace
}  // namespace sg::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sg {
namespace {
SG_REGISTER_SIMD(kernels::add_layer_norm_fwd, forward);
SG_REGISTER_SIMD(kernels::add_layer_norm_bwd, backward);
}  // namespace
}  // namespace sg
#endif
