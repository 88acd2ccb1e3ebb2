#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/layer_norm/layer_norm_cpu.cpp"
#include <hwy/foreach_target.h>

#include "core/cpu/parallel.h"
#include "core/cpu/simd-inl.h"
#include "core/cpu/simd_register.h"
#include "ops/layer_norm/layer_norm.h"
#include "ops/reduce_cpu.h"

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {
namespace {

constexpr int64_t kGrain = 16;  // rows a thread takes at least

void forward(Stream&, In x, In w, In b, double eps, Activation act, Out y, Out mean, Out rstd) {
  dispatch<float, double>(x.dtype(), "layer_norm", [&]<class T>() HWY_ATTR {
    const int64_t c = x.dim(-1), rows = c ? x.numel() / c : 0;
    const T *wp = w.data<T>(), *bp = b.data<T>();
    T* const means = mean ? mean.data<T>() : nullptr;
    T* const rstds = rstd ? rstd.data<T>() : nullptr;
    parallel_for(rows, kGrain, [&](int64_t begin, int64_t end) HWY_ATTR {
      for (int64_t r = begin; r < end; ++r) {
        const T* xp = x.data<T>() + r * c;
        T* yp = y.data<T>() + r * c;
        const auto load = [&](auto d, int64_t i) HWY_ATTR { return hn::LoadU(d, xp + i); };
        const T m = sum_lanes<T>(c, load) / T(c);
        // The second pass over the row, now in cache, keeps a large mean from eating the variance.
        const T var = sum_lanes<T>(c,
                                   [&](auto d, int64_t i) HWY_ATTR {
                                     const auto v = hn::Sub(hn::LoadU(d, xp + i), hn::Set(d, m));
                                     return hn::Mul(v, v);
                                   }) /
                      T(c);
        const T s = T(1) / std::sqrt(var + T(eps));
        for_lanes<T>(c, [&](auto d, int64_t i) HWY_ATTR {
          const auto xhat = hn::Mul(hn::Sub(hn::LoadU(d, xp + i), hn::Set(d, m)), hn::Set(d, s));
          auto v = hn::MulAdd(xhat, hn::LoadU(d, wp + i), hn::LoadU(d, bp + i));
          if (act == Activation::gelu) v = gelu(d, v);
          hn::StoreU(v, d, yp + i);
        });
        if (means) means[r] = m;
        if (rstds) rstds[r] = s;
      }
    });
  });
}

// With g = dz * w, dz the gradient before the activation, and means taken over the row:
//   dx = rstd * (g - mean(g) - xhat * mean(g * xhat)),  dw = sum dz * xhat,  db = sum dz.
void backward(Stream&, In dy, In x, In w, In b, In mean, In rstd, Activation act, Grad dx, Grad dw,
              Grad db) {
  dispatch<float, double>(x.dtype(), "layer_norm", [&]<class T>() HWY_ATTR {
    const int64_t c = x.dim(-1), rows = c ? x.numel() / c : 0;
    const T *wp = w.data<T>(), *bp = b.data<T>();
    const int chunks = chunks_of(rows, kGrain);
    const Tensor scratch = zeros({chunks, 3, c}, x.dtype());
    parallel_chunks(rows, kGrain, [&](int chunk, int64_t begin, int64_t end) HWY_ATTR {
      T* const dwp = scratch.data<T>() + chunk * 3 * c;
      T* const dbp = dwp + c;
      T* const dz = dbp + c;  // one row
      for (int64_t r = begin; r < end; ++r) {
        const T* xp = x.data<T>() + r * c;
        const T* dyp = dy.data<T>() + r * c;
        const T m = mean.data<T>()[r], s = rstd.data<T>()[r];
        const auto xhat_at = [&](auto d, int64_t i) HWY_ATTR {
          return hn::Mul(hn::Sub(hn::LoadU(d, xp + i), hn::Set(d, m)), hn::Set(d, s));
        };
        const T gx_sum = sum_lanes<T>(c, [&](auto d, int64_t i) HWY_ATTR {
          const auto xhat = xhat_at(d, i);
          auto v = hn::LoadU(d, dyp + i);
          if (act == Activation::gelu)
            v = hn::Mul(v,
                        gelu_grad(d, hn::MulAdd(xhat, hn::LoadU(d, wp + i), hn::LoadU(d, bp + i))));
          hn::StoreU(v, d, dz + i);
          hn::StoreU(hn::MulAdd(v, xhat, hn::LoadU(d, dwp + i)), d, dwp + i);
          hn::StoreU(hn::Add(v, hn::LoadU(d, dbp + i)), d, dbp + i);
          return hn::Mul(hn::Mul(v, hn::LoadU(d, wp + i)), xhat);
        });
        if (!dx) continue;
        const T g_sum = sum_lanes<T>(c, [&](auto d, int64_t i) HWY_ATTR {
          return hn::Mul(hn::LoadU(d, dz + i), hn::LoadU(d, wp + i));
        });
        T* dxp = dx.tensor.data<T>() + r * c;
        for_lanes<T>(c, [&](auto d, int64_t i) HWY_ATTR {
          const auto g = hn::Mul(hn::LoadU(d, dz + i), hn::LoadU(d, wp + i));
          auto v = hn::Sub(g, hn::Set(d, g_sum / T(c)));
          v = hn::NegMulAdd(xhat_at(d, i), hn::Set(d, gx_sum / T(c)), v);
          v = hn::Mul(v, hn::Set(d, s));
          if (dx.accumulate) v = hn::Add(v, hn::LoadU(d, dxp + i));
          hn::StoreU(v, d, dxp + i);
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
