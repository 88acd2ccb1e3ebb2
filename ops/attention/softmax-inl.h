// Softmax of a block of scores and its gradient. Scores lie as (keys, queries): softmax runs down
// the columns, a query to a lane, and never across a vector. Included once a target, as
// core/cpu/simd-inl.h.
#if defined(SG_ATTENTION_SOFTMAX_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SG_ATTENTION_SOFTMAX_INL_H_
#undef SG_ATTENTION_SOFTMAX_INL_H_
#else
#define SG_ATTENTION_SOFTMAX_INL_H_
#endif

#include "ops/attention/matmul-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {

// e^(scale x - s) <= 1 in the base b that is cheapest: b^(factor x - shift), shift = s * kLog.
template <class T>
struct Exponential {
  static constexpr double kLog = 1;  // of e, in base b
  T factor;
  explicit Exponential(double scale) : factor(T(scale)) {}
  template <class D>
  HWY_INLINE hn::Vec<D> operator()(D d, hn::Vec<D> x, hn::Vec<D> shift) const {
    const auto y = hn::MulSub(x, hn::Set(d, factor), shift);
    return hn::IfThenElse(hn::IsNaN(y), y, exp(d, y));
  }
};
// At half the cost of a general exp: 2^n 2^f with a minimax polynomial for |f| <= 1/2. Relative
// error 2e-7; exponents below -86 are taken as -86, so that no result is denormal.
template <>
struct Exponential<float> {
  static constexpr double kLog = 1.44269504088896341;
  float factor;
  explicit Exponential(double scale) : factor(float(scale * kLog)) {}
  template <class D>
  HWY_INLINE hn::Vec<D> operator()(D d, hn::Vec<D> x, hn::Vec<D> shift) const {
    const hn::RebindToUnsigned<D> bits;
    const auto magic = set(d, 12582912.0);  // 1.5 * 2^23: adding it rounds to an integer
    // In this order x86 keeps NaN.
    const auto y = hn::Max(set(d, -86.0), hn::MulSub(x, hn::Set(d, factor), shift));
    const auto shifted = hn::Add(y, magic);
    const auto f = hn::Sub(y, hn::Sub(shifted, magic));
    const auto p = polynomial(d, f, 1.326472707e-03, 9.671512650e-03, 5.550733744e-02,
                              2.402224209e-01, 6.931469776e-01, 1.0);
    // n sits in the low bits of `shifted`, and becomes an exponent.
    const auto n = hn::ShiftLeft<23>(hn::BitCast(bits, shifted));
    return hn::Mul(p, hn::BitCast(d, hn::Add(n, hn::BitCast(bits, set(d, 1.0)))));
  }
};

// The logarithm of x >= 1, for probabilities of type S.
template <class S, class D>
HWY_INLINE hn::Vec<D> log(D d, hn::Vec<D> x) {
  if constexpr (std::is_same_v<S, bf16>)
    return hn::IfThenElse(hn::IsNaN(x), x, hn::Log(d, x));
  else
    return map_lanes(d, x, [](auto v) { return std::log(v); });
}

// Lanes of two rows, the first at `to`, as a row of elements across them: both rows, ld apart, or
// a row of pairs.
template <class D, class E>
HWY_INLINE void store_across(D d, hn::Vec<D> first, hn::Vec<D> second, int64_t ld, E* to) {
  if constexpr (kPairs<E>) {
    hn::Store(pairs_of(first, second), hn::RebindToUnsigned<D>(), to);
  } else {
    hn::Store(first, d, to), hn::Store(second, d, to + ld);
  }
}
// Lanes as numbers i on of a row of pairs.
template <class D>
HWY_INLINE void store_pairs_along(D, hn::Vec<D> v, int64_t i, float* row) {
  hn::Store(to_bf16(v), hn::Rebind<uint16_t, D>(), reinterpret_cast<uint16_t*>(row) + i);
}

// f(j, row(j), row(j + 1)) for rows in twos; after an odd number of them comes one of zeros.
template <class D, class Row, class F>
HWY_INLINE void each_two_rows(D d, int64_t rows, const Row& row, const F& f) {
  int64_t j = 0;
  for (; j + 1 < rows; j += 2) {
    const auto first = row(j);
    f(j, first, row(j + 1));
  }
  if (j < rows) f(j, row(j), hn::Zero(d));
}

// The largest of `rows` vectors, ld apart: of four sequences, whose operations overlap.
template <class D, class T>
HWY_INLINE hn::Vec<D> largest(D d, int64_t rows, const T* from, int64_t ld) {
  const auto first = hn::Load(d, from);
  hn::Vec<D> top[4] = {first, first, first, first};
  int64_t j = 1;
  for (; j + 4 <= rows; j += 4)
#pragma GCC unroll 4
    for (int64_t i = 0; i < 4; ++i) top[i] = hn::Max(top[i], hn::Load(d, from + (j + i) * ld));
  for (; j < rows; ++j) top[0] = hn::Max(top[0], hn::Load(d, from + j * ld));
  return hn::Max(hn::Max(top[0], top[1]), hn::Max(top[2], top[3]));
}

// Scores (keys, queries), rows ld apart -> exponentials of the scaled scores less the largest of
// the query, in p as elements across keys; and for each query their shift and their sum. With
// `keep` the exponentials replace the scores too.
template <class E, bool keep, class T>
HWY_INLINE void exponentials(int64_t keys, int64_t queries, int64_t ld, Exponential<T> exponential,
                             T* scores, E* p, T* shift, T* sum) {
  each_vector<T>(queries, [&](auto d, int64_t i) HWY_ATTR {
    T* const s = scores + i;
    const auto top = hn::Mul(largest(d, keys, s, ld), hn::Set(d, exponential.factor));
    auto total = hn::Zero(d);
    each_two_rows(
        d, keys,
        [&](int64_t j) SG_INLINE_ATTR {
          const auto e = exponential(d, hn::Load(d, s + j * ld), top);
          if constexpr (kPairs<E> && keep) hn::Store(e, d, s + j * ld);
          total = hn::Add(total, e);
          return e;
        },
        [&](int64_t j, auto first, auto second)
            SG_INLINE_ATTR { store_across(d, first, second, ld, p + elements<E>(j) * ld + i); });
    hn::Store(top, d, shift + i);
    hn::Store(total, d, sum + i);
  });
}

// Adds a block's probabilities (exponentials times the weight of their query) to `seen`, which has
// a vector a key: the sum of its lanes is the attention that the key receives.
template <class T>
HWY_INLINE void add_seen(int64_t keys, int64_t queries, int64_t ld, const T* exponentials,
                         const T* weight, T* seen) {
  each_vector<T>(queries, [&](auto d, int64_t i) HWY_ATTR {
    const auto w = hn::Load(d, weight + i);
    for (int64_t j = 0; j < keys; ++j) {
      T* const to = seen + j * lanes<T>();
      hn::Store(hn::MulAdd(w, hn::Load(d, exponentials + j * ld + i), hn::Load(d, to)), d, to);
    }
  });
}

// Scores -> probabilities p, and dp -> ds = p * (dp - sum(p * dp)), the gradient of the scaled
// scores: both in place as elements along queries, and ds as elements across keys too. All are
// (keys, queries), rows ld apart.
template <class E, class T>
HWY_INLINE void softmax_gradient(int64_t keys, int64_t queries, int64_t ld,
                                 Exponential<T> exponential, const T* shift, T* scores, T* dp,
                                 E* ds_across) {
  each_vector<T>(queries, [&](auto d, int64_t i) HWY_ATTR {
    T *const s = scores + i, *const g = dp + i;
    const auto top = hn::Load(d, shift + i);
    auto total = hn::Zero(d);
    for (int64_t j = 0; j < keys * ld; j += ld) {
      const auto p = exponential(d, hn::Load(d, s + j), top);
      hn::Store(p, d, s + j);
      total = hn::MulAdd(p, hn::Load(d, g + j), total);
    }
    each_two_rows(
        d, keys,
        [&](int64_t j) SG_INLINE_ATTR {
          const auto p = hn::Load(d, s + j * ld);
          const auto ds = hn::Mul(p, hn::Sub(hn::Load(d, g + j * ld), total));
          // A row of pairs takes the first half of its row of numbers, which is done by now.
          if constexpr (kPairs<E>) {
            store_pairs_along(d, p, i, scores + j * ld);
            store_pairs_along(d, ds, i, dp + j * ld);
          }
          return ds;
        },
        [&](int64_t j, auto first, auto second) SG_INLINE_ATTR {
          store_across(d, first, second, ld, ds_across + elements<E>(j) * ld + i);
        });
  });
}

}  // namespace sg::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
