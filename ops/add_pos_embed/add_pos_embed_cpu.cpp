#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/add_pos_embed/add_pos_embed_cpu.cpp"
#include <hwy/foreach_target.h>

#include "core/cpu/parallel.h"
#include "core/cpu/simd-inl.h"
#include "core/cpu/simd_register.h"
#include "ops/add_pos_embed/add_pos_embed.h"

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {
namespace {

constexpr int64_t kGrain = 1 << 14;

void forward(Stream&, In x, In table, Out y) {
  dispatch<float, double, bf16>(x.dtype(), "add_pos_embed", [&]<class S>() {
    using T = AccType<S>;
    const int64_t n = table.numel();
    const T* rows = table.data<T>();
    for (int64_t b = 0; b < x.dim(0); ++b) {
      const S* from = x.data<S>() + b * n;
      S* to = y.data<S>() + b * n;
      parallel_for(n, kGrain, [&](int64_t begin, int64_t end) HWY_ATTR {
        for_lanes<T>(end - begin, [&](auto d, int64_t i) HWY_ATTR {
          i += begin;
          store(hn::Add(load(d, from + i), hn::LoadU(d, rows + i)), d, to + i);
        });
      });
    }
  });
}

void backward(Stream&, In dy, Grad dtable) {
  dispatch<float, double, bf16>(dy.dtype(), "add_pos_embed", [&]<class S>() {
    using T = AccType<S>;
    const int64_t n = dtable.tensor.numel();
    parallel_for(n, kGrain / 8, [&](int64_t begin, int64_t end) HWY_ATTR {
      T* to = dtable.tensor.data<T>();
      for_lanes<T>(end - begin, [&](auto d, int64_t i) HWY_ATTR {
        i += begin;
        auto sum = dtable.accumulate ? hn::LoadU(d, to + i) : hn::Zero(d);
        for (int64_t b = 0; b < dy.dim(0); ++b)
          sum = hn::Add(sum, load(d, dy.data<S>() + b * n + i));
        hn::StoreU(sum, d, to + i);
      });
    });
  });
}

}  // namespace
}  // namespace sg::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sg {
namespace {
SG_REGISTER_SIMD(kernels::add_pos_embed_fwd, forward);
SG_REGISTER_SIMD(kernels::add_pos_embed_bwd, backward);
}  // namespace
}  // namespace sg
#endif
