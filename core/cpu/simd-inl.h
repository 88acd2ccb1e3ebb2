// Vector helpers for kernels. Included once a target inside Highway's foreach_target, after
// HWY_TARGET_INCLUDE is set; see ops/layer_norm/layer_norm_cpu.cpp for the pattern.
#if defined(SG_CPU_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SG_CPU_SIMD_INL_H_
#undef SG_CPU_SIMD_INL_H_
#else
#define SG_CPU_SIMD_INL_H_
#endif

#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include <cmath>
#include <cstdint>
#include <type_traits>

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// f(d, i) for i over [0, n) in whole vectors, then in single lanes for the rest.
template <class T, class F>
HWY_INLINE void for_lanes(int64_t n, const F& f) {
  const hn::ScalableTag<T> d;
  const hn::CappedTag<T, 1> one;
  const int64_t lanes = int64_t(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) f(d, i);
  for (; i < n; ++i) f(one, i);
}

// The sum over [0, n) of the lanes of f(d, i).
template <class T, class F>
HWY_INLINE T sum_lanes(int64_t n, const F& f) {
  const hn::ScalableTag<T> d;
  const hn::CappedTag<T, 1> one;
  const int64_t lanes = int64_t(hn::Lanes(d));
  auto sum = hn::Zero(d);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) sum = hn::Add(sum, f(d, i));
  T total = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; i < n; ++i) total += hn::GetLane(f(one, i));
  return total;
}

template <class D, class T = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> set(D d, double v) {
  return hn::Set(d, static_cast<T>(v));
}

// erf. float: x P(x^2) / Q(x^2) fitted to relative error 6e-8 on |x| < 3.95, beyond which erf
// rounds to 1 (4e-7 in float arithmetic). double: the C library's, lane by lane.
template <class D>
HWY_INLINE hn::Vec<D> erf(D d, hn::Vec<D> x) {
  using T = hn::TFromD<D>;
  if constexpr (std::is_same_v<T, float>) {
    x = hn::Min(hn::Max(x, set(d, -3.95)), set(d, 3.95));
    const auto t = hn::Mul(x, x);
    auto p = set(d, 1.960381896e-08);
    for (double c : {-1.950907936e-06, 1.438106625e-04, 3.807894615e-03, 5.092342204e-02,
                     2.025841212e-01, 1.128379104e+00})
      p = hn::MulAdd(p, t, set(d, c));
    auto q = set(d, 9.798596737e-04);
    for (double c : {1.457585414e-02, 1.160950145e-01, 5.128670134e-01, 1.0})
      q = hn::MulAdd(q, t, set(d, c));
    return hn::Div(hn::Mul(x, p), q);
  } else {
    HWY_ALIGN T lanes[hn::MaxLanes(d)];
    hn::Store(x, d, lanes);
    for (size_t i = 0; i < hn::Lanes(d); ++i) lanes[i] = std::erf(lanes[i]);
    return hn::Load(d, lanes);
  }
}

// e^x; relative error about 1e-7 (float), 1e-15 (double).
template <class D>
HWY_INLINE hn::Vec<D> exp(D d, hn::Vec<D> x) {
  return hn::Exp(d, x);
}

// Standard normal distribution function.
template <class D>
HWY_INLINE hn::Vec<D> normal_cdf(D d, hn::Vec<D> x) {
  const auto half = set(d, 0.5);
  return hn::MulAdd(half, erf(d, hn::Mul(x, set(d, 0.70710678118654752440))), half);
}

// x times the normal distribution function (the exact GELU).
template <class D>
HWY_INLINE hn::Vec<D> gelu(D d, hn::Vec<D> x) {
  return hn::Mul(x, normal_cdf(d, x));
}

// Derivative of gelu.
template <class D>
HWY_INLINE hn::Vec<D> gelu_grad(D d, hn::Vec<D> x) {
  const auto density =
      hn::Mul(set(d, 0.39894228040143267794), exp(d, hn::Mul(set(d, -0.5), hn::Mul(x, x))));
  return hn::MulAdd(x, density, normal_cdf(d, x));
}

}  // namespace sg::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
