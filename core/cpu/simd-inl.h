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

#include "core/acc_type.h"

// HWY_ATTR for a lambda of the innermost loop that must not stay a call.
#undef SG_INLINE_ATTR
#define SG_INLINE_ATTR HWY_ATTR __attribute__((always_inline))

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// f(d, i) for i over [0, n) in whole vectors of T, then in single lanes for the rest.
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

// Storage and arithmetic are two types (core/acc_type.h): load() and store() are LoadU and StoreU
// where the lanes of d are of the type in memory, and convert where they are not.

// From float to lanes of double is for sums that float is too narrow for.
template <class D, class S>
HWY_INLINE hn::Vec<D> load(D d, const S* from) {
  using T = hn::TFromD<D>;
  if constexpr (std::is_same_v<S, T>) {
    return hn::LoadU(d, from);
  } else if constexpr (std::is_same_v<S, bf16>) {
    static_assert(std::is_same_v<T, float>);
    const hn::RebindToUnsigned<D> wide;
    const auto bits = hn::LoadU(hn::Rebind<uint16_t, D>(), &from->bits);
    return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(wide, bits)));
  } else {
    static_assert(std::is_same_v<S, float> && std::is_same_v<T, double>);
    return hn::PromoteTo(d, hn::LoadU(hn::Rebind<float, D>(), from));
  }
}

// Rounds as bf16(float) does: to nearest, ties to even, a NaN stays one. Highway's own conversion
// cuts the low bits off.
template <class D, class S>
HWY_INLINE void store(hn::Vec<D> v, D d, S* to) {
  if constexpr (std::is_same_v<S, hn::TFromD<D>>) {
    hn::StoreU(v, d, to);
  } else {
    static_assert(std::is_same_v<S, bf16> && std::is_same_v<hn::TFromD<D>, float>);
    const hn::RebindToUnsigned<D> wide;
    const hn::Rebind<uint16_t, D> narrow;
    const auto bits = hn::BitCast(wide, v), upper = hn::ShiftRight<16>(bits);
    const auto odd = hn::And(upper, hn::Set(wide, 1));
    const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(hn::Set(wide, 0x7fff), odd)));
    const auto quiet = hn::Or(upper, hn::Set(wide, 0x40));
    const auto nan = hn::RebindMask(wide, hn::IsNaN(v));
    hn::StoreU(hn::TruncateTo(narrow, hn::IfThenElse(nan, quiet, rounded)), narrow, &to->bits);
  }
}

// The sum over the n elements at x, in no order that a caller may rely on: sum = f(d, v, sum) adds
// the terms of the lanes of v. Two registers are loaded at once, which for bf16 are the even and
// the odd elements of one.
template <class S, class F, class T = AccType<S>>
HWY_INLINE T sum_values(const S* x, int64_t n, const F& f) {
  const hn::ScalableTag<T> d;
  const hn::CappedTag<T, 1> one;
  const int64_t lanes = int64_t(hn::Lanes(d));
  auto sum0 = hn::Zero(d), sum1 = hn::Zero(d);
  int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    if constexpr (std::is_same_v<S, bf16> && hn::MaxLanes(d) > 1) {
      const hn::RebindToUnsigned<decltype(d)> wide;
      const hn::Repartition<uint16_t, decltype(d)> narrow;
      const auto bits = hn::BitCast(wide, hn::LoadU(narrow, &x[i].bits));
      sum0 = f(d, hn::BitCast(d, hn::ShiftLeft<16>(bits)), sum0);
      sum1 = f(d, hn::BitCast(d, hn::And(bits, hn::Set(wide, 0xffff0000u))), sum1);
    } else {
      sum0 = f(d, load(d, x + i), sum0);
      sum1 = f(d, load(d, x + i + lanes), sum1);
    }
  }
  sum0 = hn::Add(sum0, sum1);
  for (; i + lanes <= n; i += lanes) sum0 = f(d, load(d, x + i), sum0);
  auto rest = hn::Zero(one);
  for (; i < n; ++i) rest = f(one, load(one, x + i), rest);
  return hn::GetLane(hn::SumOfLanes(d, sum0)) + hn::GetLane(rest);
}

template <class D, class T = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> set(D d, double v) {
  return hn::Set(d, static_cast<T>(v));
}

// e^x; relative error about 1e-7 (float), 1e-15 (double).
template <class D>
HWY_INLINE hn::Vec<D> exp(D d, hn::Vec<D> x) {
  return hn::Exp(d, x);
}

// The polynomial with coefficients from the highest power down. A fold, so that no compiler leaves
// a loop here.
template <class D, class... C>
HWY_INLINE hn::Vec<D> polynomial(D d, hn::Vec<D> t, double first, C... rest) {
  auto sum = set(d, first);
  ((sum = hn::MulAdd(sum, t, set(d, rest))), ...);
  return sum;
}

template <class D>
HWY_INLINE hn::Vec<D> clamp(D d, hn::Vec<D> x, double limit) {
  return hn::Min(set(d, limit), hn::Max(set(d, -limit), x));  // in this order x86 keeps NaN
}

// f(v) of every lane v, for functions that only the C library has in double.
template <class D, class F>
HWY_INLINE hn::Vec<D> map_lanes(D d, hn::Vec<D> x, const F& f) {
  HWY_ALIGN hn::TFromD<D> lanes[hn::MaxLanes(d)];
  hn::Store(x, d, lanes);
  for (size_t i = 0; i < hn::Lanes(d); ++i) lanes[i] = f(lanes[i]);
  return hn::Load(d, lanes);
}

// Functions for results of type S. The forms for float, x P(x^2) / Q(x^2), are minimax fits to
// f - 1/2 (error 1e-8 and 1e-7; 3e-7 with float rounding). Those for bf16, x P(x^2 - 9.5), need no
// division: an error of 2.6e-5 in gelu and 1.6e-4 in gelu_grad is far below the rounding of the
// result. At the limit, with or without fused multiply-add, rounding ends at exactly +-1/2: large
// arguments give exactly 0 and 1.

// Standard normal distribution function.
template <class S, class D>
HWY_INLINE hn::Vec<D> normal_cdf(D d, hn::Vec<D> x) {
  if constexpr (std::is_same_v<S, bf16>) {
    x = clamp(d, x, 4.40000677);
    const auto p = polynomial(d, hn::MulAdd(x, x, set(d, -9.5)), 3.569398249e-11, -1.041279618e-09,
                              1.463998434e-08, -2.031102326e-07, 3.228265314e-06, -4.645767331e-05,
                              6.141125341e-04, -8.337747306e-03, 1.618855596e-01);
    return hn::Add(hn::Mul(x, p), set(d, 0.5));
  } else if constexpr (std::is_same_v<S, float>) {
    x = clamp(d, x, 5.598);
    const auto t = hn::Mul(x, x);
    const auto p = polynomial(d, t, 2.214532761e-08, 6.356539835e-06, 1.738510680e-04,
                              4.707261393e-03, 3.437613347e-02, 3.989422216e-01);
    const auto q = polynomial(d, t, 1.180213015e-06, 7.510206290e-05, 1.912979990e-03,
                              2.894010382e-02, 2.528339011e-01, 1.0);
    return hn::Add(hn::Div(hn::Mul(x, p), q), set(d, 0.5));
  } else {
    return map_lanes(d, x, [](double v) { return 0.5 * std::erfc(-v * 0.70710678118654752440); });
  }
}

// x times the normal distribution function (the exact GELU).
template <class S, class D>
HWY_INLINE hn::Vec<D> gelu(D d, hn::Vec<D> x) {
  return hn::Mul(x, normal_cdf<S>(d, x));
}

// Derivative of gelu: the distribution function plus x times the density.
template <class S, class D>
HWY_INLINE hn::Vec<D> gelu_grad(D d, hn::Vec<D> x) {
  if constexpr (std::is_same_v<S, bf16>) {
    x = clamp(d, x, 4.30001307);
    const auto p = polynomial(d, hn::MulAdd(x, x, set(d, -9.5)), 5.297859929e-10, -1.109513459e-08,
                              8.469241664e-08, -7.833803579e-07, 1.208330377e-05, -1.259060518e-04,
                              1.050564693e-03, -1.001687627e-02, 1.653214544e-01);
    return hn::Add(hn::Mul(x, p), set(d, 0.5));
  } else if constexpr (std::is_same_v<S, float>) {
    x = clamp(d, x, 5.826);
    const auto t = hn::Mul(x, x);
    const auto p = polynomial(d, t, 1.929292738e-07, 3.595594343e-05, 1.922029832e-05,
                              1.423030671e-02, -3.099586854e-02, 7.978853613e-01);
    const auto q = polynomial(d, t, 8.952419342e-06, 1.920363442e-04, 3.523034409e-03,
                              4.098020671e-02, 2.944940241e-01, 1.0);
    return hn::Add(hn::Div(hn::Mul(x, p), q), set(d, 0.5));
  } else {
    const auto density =
        hn::Mul(set(d, 0.39894228040143267794), exp(d, hn::Mul(set(d, -0.5), hn::Mul(x, x))));
    return hn::MulAdd(x, density, normal_cdf<S>(d, x));
  }
}

}  // namespace sg::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
