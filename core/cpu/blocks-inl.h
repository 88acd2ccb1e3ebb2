// Loops over channels by blocks of vectors. Included as core/cpu/simd-inl.h is.
#if defined(SG_CPU_BLOCKS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SG_CPU_BLOCKS_INL_H_
#undef SG_CPU_BLOCKS_INL_H_
#else
#define SG_CPU_BLOCKS_INL_H_
#endif

#include <type_traits>

#include "core/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {

// f(d, k, count) for k over [0, n): for `count` whole vectors at k at once, then for the rest. As
// wide an access to each of many pixels keeps what is fetched ahead of it useful.
template <class T, class F>
HWY_INLINE void for_blocks(int64_t n, const F& f) {
  constexpr int kBlock = 4;
  const hn::ScalableTag<T> d;
  const int64_t block = kBlock * int64_t(hn::Lanes(d)), whole = n / block * block;
  for (int64_t k = 0; k < whole; k += block) f(d, k, std::integral_constant<int, kBlock>());
  for_lanes<T>(n - whole, [&](auto e, int64_t k) SG_INLINE_ATTR {
    f(e, whole + k, std::integral_constant<int, 1>());
  });
}

}  // namespace sg::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
