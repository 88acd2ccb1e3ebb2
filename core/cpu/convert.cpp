#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/cpu/convert.cpp"
#include <hwy/foreach_target.h>

#include "core/cpu/convert.h"
#include "core/cpu/simd-inl.h"
#include "core/cpu/simd_register.h"

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {
namespace {

void widen(const bf16* from, float* to, int64_t n) {
  store_lanes<float>(n, to, [&](auto d, int64_t i) HWY_ATTR { return load(d, from + i); });
}
void narrow(const float* from, bf16* to, int64_t n) {
  store_lanes<float>(n, to, [&](auto d, int64_t i) HWY_ATTR { return load(d, from + i); });
}

}  // namespace
}  // namespace sg::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sg {
namespace {
HWY_EXPORT(widen);
HWY_EXPORT(narrow);
}  // namespace

void convert(const bf16* from, float* to, int64_t n) { HWY_DYNAMIC_DISPATCH(widen)(from, to, n); }
void convert(const float* from, bf16* to, int64_t n) { HWY_DYNAMIC_DISPATCH(narrow)(from, to, n); }

}  // namespace sg
#endif
