#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/cpu/add_into.cpp"
#include <hwy/foreach_target.h>

#include "core/cpu/add_into.h"
#include "core/cpu/simd-inl.h"
#include "core/cpu/simd_register.h"

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {
namespace {

template <class S, class D>
void add(const S* from, D* to, int64_t n) {
  store_lanes<AccType<S>>(n, to, [&](auto d, int64_t i) SG_INLINE_ATTR {
    return hn::Add(load(d, to + i), load(d, from + i));
  });
}
void add_f32(const float* from, float* to, int64_t n) { add(from, to, n); }
void add_f64(const double* from, double* to, int64_t n) { add(from, to, n); }
void add_bf16(const bf16* from, bf16* to, int64_t n) { add(from, to, n); }
void add_bf16_to_f32(const bf16* from, float* to, int64_t n) { add(from, to, n); }

}  // namespace
}  // namespace sg::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sg {
namespace {
HWY_EXPORT(add_f32);
HWY_EXPORT(add_f64);
HWY_EXPORT(add_bf16);
HWY_EXPORT(add_bf16_to_f32);
}  // namespace

void add_into(const float* from, float* to, int64_t n) {
  HWY_DYNAMIC_DISPATCH(add_f32)(from, to, n);
}
void add_into(const double* from, double* to, int64_t n) {
  HWY_DYNAMIC_DISPATCH(add_f64)(from, to, n);
}
void add_into(const bf16* from, bf16* to, int64_t n) {
  HWY_DYNAMIC_DISPATCH(add_bf16)(from, to, n);
}
void add_into(const bf16* from, float* to, int64_t n) {
  HWY_DYNAMIC_DISPATCH(add_bf16_to_f32)(from, to, n);
}

}  // namespace sg
#endif
