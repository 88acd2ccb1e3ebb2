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
#include "core/cpu/piecewise_quadratic.h"

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
    const auto bits = hn::LoadU(hn::Rebind<uint16_t, D>(), &from->bits);
#if HWY_TARGET == HWY_AVX3
    // One permutation for what is otherwise a conversion and a shift.
    if constexpr (hn::MaxLanes(d) == 16) {
      alignas(64) static constexpr uint16_t kIndex[32] = {
          0, 0, 1, 1, 2,  2,  3,  3,  4,  4,  5,  5,  6,  6,  7,  7,
          8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15};
      return {_mm512_castsi512_ps(_mm512_maskz_permutexvar_epi16(
          0xaaaaaaaa, _mm512_load_si512(kIndex), _mm512_castsi256_si512(bits.raw)))};
    }
#endif
    const hn::RebindToUnsigned<D> wide;
    return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(wide, bits)));
  } else {
    static_assert(std::is_same_v<S, float> && std::is_same_v<T, double>);
    return hn::PromoteTo(d, hn::LoadU(hn::Rebind<float, D>(), from));
  }
}

// The upper halves of the lanes of v0 and then of v1, rounded as bf16(float) does: to nearest, ties
// to even. No lane may be a NaN with bits in its lower half. Highway's own conversion cuts the low
// bits off.
template <class D, class V>
HWY_INLINE hn::Vec<hn::Repartition<uint16_t, D>> round_pair(D, V v0, V v1) {
  const hn::Repartition<uint16_t, D> h;
  const auto upper = ConcatOdd(h, hn::BitCast(h, v1), hn::BitCast(h, v0));
  const auto lower = ConcatEven(h, hn::BitCast(h, v1), hn::BitCast(h, v0));
  // Up where lower > 0x8000, and at 0x8000 if upper is odd.
  const auto even = hn::AndNot(upper, hn::Set(h, 1));
  return hn::Add(upper, hn::ShiftRight<15>(hn::SaturatedSub(lower, even)));
}

// Stores the lanes of v[j] at to + j * stride. To bf16, vectors are rounded in pairs, and a NaN,
// which stays one, is looked for once.
template <class D, class V, size_t N, class S>
HWY_INLINE void store(const V (&v)[N], D d, S* to, int64_t stride) {
  if constexpr (std::is_same_v<S, hn::TFromD<D>>) {
    HWY_UNROLL(16)
    for (size_t j = 0; j < N; ++j) hn::StoreU(v[j], d, to + int64_t(j) * stride);
  } else if constexpr (hn::MaxLanes(d) == 1) {
    for (size_t j = 0; j < N; ++j) to[int64_t(j) * stride] = S(hn::GetLane(v[j]));
  } else {
    static_assert(std::is_same_v<S, bf16> && std::is_same_v<hn::TFromD<D>, float>);
    V u[N], sum = v[0];
    HWY_UNROLL(16)
    for (size_t j = 0; j < N; ++j) u[j] = v[j];
    HWY_UNROLL(16)
    for (size_t j = 1; j < N; ++j) sum = hn::Add(sum, v[j]);
    if (HWY_UNLIKELY(!hn::AllFalse(d, hn::IsNaN(sum)))) {
      const hn::RebindToUnsigned<D> wide;
      HWY_UNROLL(16)
      for (size_t j = 0; j < N; ++j) {
        const auto upper = hn::And(hn::BitCast(wide, v[j]), hn::Set(wide, 0xffff0000u));
        const auto quiet = hn::BitCast(d, hn::Or(upper, hn::Set(wide, 0x00400000u)));
        u[j] = hn::IfThenElse(hn::IsNaN(v[j]), quiet, v[j]);
      }
    }
    const hn::Repartition<uint16_t, D> h;
    const hn::Half<decltype(h)> half;
    HWY_UNROLL(16)
    for (size_t j = 0; j < N; j += 2) {
      uint16_t* const at = &to[int64_t(j) * stride].bits;
      if (j + 1 == N) {
        hn::StoreU(hn::LowerHalf(half, round_pair(d, u[j], u[j])), half, at);
      } else {
        const auto both = round_pair(d, u[j], u[j + 1]);
        if (stride == int64_t(hn::Lanes(d))) {
          hn::StoreU(both, h, at);
        } else {
          hn::StoreU(hn::LowerHalf(half, both), half, at);
          hn::StoreU(UpperHalf(half, both), half, at + stride);  // unqualified: not in HWY_SCALAR
        }
      }
    }
  }
}

template <class D, class S>
HWY_INLINE void store(hn::Vec<D> v, D d, S* to) {
  const hn::Vec<D> one[1] = {v};
  store(one, d, to, 0);
}

// to[i] = f(d, i) for i over [0, n), as for_lanes().
template <class T, class S, class F>
HWY_INLINE void store_lanes(int64_t n, S* to, const F& f) {
  const hn::ScalableTag<T> d;
  const hn::CappedTag<T, 1> one;
  const int64_t lanes = int64_t(hn::Lanes(d));
  int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    const hn::Vec<decltype(d)> v[2] = {f(d, i), f(d, i + lanes)};
    store(v, d, to + i, lanes);
  }
  for (; i + lanes <= n; i += lanes) store(f(d, i), d, to + i);
  for (; i < n; ++i) store(f(one, i), one, to + i);
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

// table[i & 31] of every lane i.
template <class D>
HWY_INLINE hn::Vec<D> look_up(D d, const float (&table)[32], hn::Vec<hn::RebindToSigned<D>> i) {
#if HWY_TARGET == HWY_AVX3
  if constexpr (hn::MaxLanes(d) == 16)
    return {_mm512_permutex2var_ps(hn::Load(d, table).raw, i.raw, hn::Load(d, table + 16).raw)};
#endif
  return hn::GatherIndex(d, table, hn::And(i, hn::Set(hn::RebindToSigned<D>(), 31)));
}

// f(x) for x >= 0.
template <class D>
HWY_INLINE hn::Vec<D> evaluate(D d, const PiecewiseQuadratic& f, hn::Vec<D> x) {
  x = hn::Min(set(d, PiecewiseQuadratic::kLast), x);  // in this order x86 keeps NaN
  // At 2^23 the lowest bit of a float is 1: the sum ends in the number of the segment.
  const auto sum = hn::MulAdd(x, set(d, 1 / PiecewiseQuadratic::kStep), set(d, 1 << 23));
  const auto i = hn::BitCast(hn::RebindToSigned<D>(), sum);
  const auto slope = hn::MulAdd(look_up(d, f.c[2], i), x, look_up(d, f.c[1], i));
  return hn::MulAdd(slope, x, look_up(d, f.c[0], i));
}

// Functions for results of type S. The forms for float, x P(x^2) / Q(x^2), are minimax fits to
// f - 1/2 (error 1e-8 and 1e-7; 3e-7 with float rounding). At the limit, with or without fused
// multiply-add, rounding ends at exactly +-1/2: large arguments give exactly 0 and 1. So do those
// for bf16, whose tables end in a constant.

// Standard normal distribution function.
template <class S, class D>
HWY_INLINE hn::Vec<D> normal_cdf(D d, hn::Vec<D> x) {
  if constexpr (std::is_same_v<S, float>) {
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
  if constexpr (std::is_same_v<S, bf16>)
    return hn::Sub(hn::Max(hn::Zero(d), x), evaluate(d, kReluMinusGelu, hn::Abs(x)));
  else
    return hn::Mul(x, normal_cdf<S>(d, x));
}

// Derivative of gelu: the distribution function plus x times the density.
template <class S, class D>
HWY_INLINE hn::Vec<D> gelu_grad(D d, hn::Vec<D> x) {
  if constexpr (std::is_same_v<S, bf16>) {
    const auto sign = hn::And(x, hn::SignBit(d));
    return hn::Add(set(d, 0.5), hn::Xor(evaluate(d, kGeluGradMinusHalf, hn::Abs(x)), sign));
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
