#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/dropout2d/dropout2d_cpu.cpp"
#include <hwy/foreach_target.h>

#include "core/cpu/parallel.h"
#include "core/cpu/simd-inl.h"
#include "core/cpu/simd_register.h"
#include "ops/dropout2d/dropout2d.h"

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {
namespace {

void scale_channels(Stream&, In x, In keep, Grad y) {
  dispatch<float, double, bf16>(x.dtype(), "dropout2d", [&]<class S>() HWY_ATTR {
    using T = AccType<S>;
    const int64_t pixels = x.dim(1) * x.dim(2), c = x.dim(3);
    parallel_for(x.dim(0) * pixels, 64, [&](int64_t begin, int64_t end) HWY_ATTR {
      for (int64_t i = begin; i < end; ++i) {
        const S* const from = x.data<S>() + i * c;
        const T* const factors = keep.data<T>() + i / pixels * c;
        S* const to = y.tensor.data<S>() + i * c;
        for_lanes<T>(c, [&](auto d, int64_t k) SG_INLINE_ATTR {
          auto v = hn::Mul(load(d, from + k), hn::LoadU(d, factors + k));
          if (y.accumulate) v = hn::Add(v, load(d, to + k));
          store(v, d, to + k);
        });
      }
    });
  });
}

}  // namespace
}  // namespace sg::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sg {
namespace {
SG_REGISTER_SIMD(kernels::dropout2d, scale_channels);
}  // namespace
}  // namespace sg
#endif
