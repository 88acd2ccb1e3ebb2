// Layer normalization of one row, forward and backward. Included once a target, as
// core/cpu/simd-inl.h. Rows are of S; moments, w, b and sums of T = AccType<S>.
#if defined(SG_LAYER_NORM_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SG_LAYER_NORM_ROWS_INL_H_
#undef SG_LAYER_NORM_ROWS_INL_H_
#else
#define SG_LAYER_NORM_ROWS_INL_H_
#endif

#include "core/cpu/simd-inl.h"
#include "ops/activation.h"

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {

constexpr int64_t kRowGrain = 16;  // rows a thread takes at least

template <class T>
struct RowMoments {
  T mean, rstd;
};

// y = act((x - mean) / sqrt(var + eps) * w + b) over c elements.
template <class S, class T = AccType<S>>
HWY_INLINE RowMoments<T> normalize_row(const S* x, int64_t c, const T* w, const T* b, T eps,
                                       Activation act, S* y) {
  const T m = sum_lanes<T>(c, [&](auto d, int64_t i) HWY_ATTR { return load(d, x + i); }) / T(c);
  // A second pass over the row, now in cache: the variance loses no digits where the mean is large.
  const T var = sum_lanes<T>(c,
                             [&](auto d, int64_t i) HWY_ATTR {
                               const auto v = hn::Sub(load(d, x + i), hn::Set(d, m));
                               return hn::Mul(v, v);
                             }) /
                T(c);
  const T s = T(1) / std::sqrt(var + eps);
  for_lanes<T>(c, [&](auto d, int64_t i) HWY_ATTR {
    const auto xhat = hn::Mul(hn::Sub(load(d, x + i), hn::Set(d, m)), hn::Set(d, s));
    auto v = hn::MulAdd(xhat, hn::LoadU(d, w + i), hn::LoadU(d, b + i));
    if (act == Activation::gelu) v = gelu<S>(d, v);
    store(v, d, y + i);
  });
  return {m, s};
}

// With g = dz * w, dz the gradient before the activation, and means taken over the row:
//   dx = rstd * (g - mean(g) - xhat * mean(g * xhat)),  dw += dz * xhat,  db += dz.
// put(d, i, lanes of dx) takes dx, where it is wanted; `dz` holds c elements.
template <class S, class Put, class T = AccType<S>>
HWY_INLINE void row_gradient(const S* dy, const S* x, int64_t c, const T* w, const T* b,
                             RowMoments<T> moments, Activation act, T* dz, T* dw, T* db,
                             bool dx_wanted, const Put& put) {
  const T m = moments.mean, s = moments.rstd;
  const auto xhat_at = [&](auto d, int64_t i) HWY_ATTR {
    return hn::Mul(hn::Sub(load(d, x + i), hn::Set(d, m)), hn::Set(d, s));
  };
  const T gx_sum = sum_lanes<T>(c, [&](auto d, int64_t i) HWY_ATTR {
    const auto xhat = xhat_at(d, i);
    auto v = load(d, dy + i);
    if (act == Activation::gelu)
      v = hn::Mul(v, gelu_grad<S>(d, hn::MulAdd(xhat, hn::LoadU(d, w + i), hn::LoadU(d, b + i))));
    hn::StoreU(v, d, dz + i);
    hn::StoreU(hn::MulAdd(v, xhat, hn::LoadU(d, dw + i)), d, dw + i);
    hn::StoreU(hn::Add(v, hn::LoadU(d, db + i)), d, db + i);
    return hn::Mul(hn::Mul(v, hn::LoadU(d, w + i)), xhat);
  });
  if (!dx_wanted) return;
  const T g_sum = sum_lanes<T>(c, [&](auto d, int64_t i) HWY_ATTR {
    return hn::Mul(hn::LoadU(d, dz + i), hn::LoadU(d, w + i));
  });
  for_lanes<T>(c, [&](auto d, int64_t i) HWY_ATTR {
    const auto g = hn::Mul(hn::LoadU(d, dz + i), hn::LoadU(d, w + i));
    auto v = hn::Sub(g, hn::Set(d, g_sum / T(c)));
    v = hn::NegMulAdd(xhat_at(d, i), hn::Set(d, gx_sum / T(c)), v);
    put(d, i, hn::Mul(v, hn::Set(d, s)));
  });
}

}  // namespace sg::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
