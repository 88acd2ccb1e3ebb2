// Rows of class logits in whole vectors, for kernels that go over the classes of many pixels. They
// are padded with numbers so low that these are never the largest and that their exp is 0, also
// after interpolation between two rows. Included once a target, as core/cpu/simd-inl.h.
#if defined(SG_CLASS_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SG_CLASS_ROWS_INL_H_
#undef SG_CLASS_ROWS_INL_H_
#else
#define SG_CLASS_ROWS_INL_H_
#endif

#include <limits>

#include "core/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {

template <class T>
constexpr T kClassPad = std::numeric_limits<T>::lowest() / 4;

// The classes and their padding.
template <class T>
HWY_INLINE int64_t padded_classes(int64_t classes) {
  const int64_t lanes = int64_t(hn::Lanes(hn::ScalableTag<T>()));
  return (classes + lanes - 1) / lanes * lanes;
}

}  // namespace sg::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
