#include "dist/sums.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "dist/sums.cpp"
#include <hwy/foreach_target.h>

#include "core/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {

template <class S>
void sum_rows(std::span<const void* const> rows, void* to, int64_t n) {
  using T = std::conditional_t<std::is_same_v<S, bf16>, float, S>;
  S* const out = static_cast<S*>(to);
  for_lanes<T>(n, [&](auto d, int64_t i) SG_INLINE_ATTR {
    auto sum = load(d, static_cast<const S*>(rows[0]) + i);
    for (size_t r = 1; r < rows.size(); ++r)
      sum = hn::Add(sum, load(d, static_cast<const S*>(rows[r]) + i));
    store(sum, d, out + i);
  });
}
void sum_rows_f32(std::span<const void* const> rows, void* to, int64_t n) {
  sum_rows<float>(rows, to, n);
}
void sum_rows_bf16(std::span<const void* const> rows, void* to, int64_t n) {
  sum_rows<bf16>(rows, to, n);
}
void sum_rows_f64(std::span<const void* const> rows, void* to, int64_t n) {
  sum_rows<double>(rows, to, n);
}
void sum_rows_i32(std::span<const void* const> rows, void* to, int64_t n) {
  sum_rows<int32_t>(rows, to, n);
}

}  // namespace sg::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sg {
HWY_EXPORT(sum_rows_f32);
HWY_EXPORT(sum_rows_bf16);
HWY_EXPORT(sum_rows_f64);
HWY_EXPORT(sum_rows_i32);
}  // namespace sg

namespace sg::dist {

void sum_rows(Dtype dtype, std::span<const void* const> rows, void* to, int64_t n) {
  dispatch<float, bf16, double, int32_t>(dtype, "sum over ranks", [&]<class T>() {
    if constexpr (std::is_same_v<T, float>) HWY_DYNAMIC_DISPATCH(sum_rows_f32)(rows, to, n);
    if constexpr (std::is_same_v<T, bf16>) HWY_DYNAMIC_DISPATCH(sum_rows_bf16)(rows, to, n);
    if constexpr (std::is_same_v<T, double>) HWY_DYNAMIC_DISPATCH(sum_rows_f64)(rows, to, n);
    if constexpr (std::is_same_v<T, int32_t>) HWY_DYNAMIC_DISPATCH(sum_rows_i32)(rows, to, n);
  });
}

}  // namespace sg::dist
#endif
