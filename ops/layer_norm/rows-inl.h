// Layer normalization of some rows, forward and backward. Included once a target, as
// core/cpu/simd-inl.h. Rows are of S; moments, w, b and sums of T = AccType<S>.
#if defined(SG_LAYER_NORM_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SG_LAYER_NORM_ROWS_INL_H_
#undef SG_LAYER_NORM_ROWS_INL_H_
#else
#define SG_LAYER_NORM_ROWS_INL_H_
#endif

#include <algorithm>

#include "core/cpu/simd-inl.h"
#include "ops/activation.h"

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {

constexpr int64_t kRowGrain = 16;  // rows a thread takes at least
// Rows that take each pass together: within a row, a pass waits for the sum that ends the one
// before; with other rows in between it does not.
constexpr int kRowBlock = 8;

// y = act((x - mean) / sqrt(var + eps) * w + b) over each of up to kRowBlock rows of c elements.
// Moments are stored where they are wanted (else null).
template <class S, class T = AccType<S>>
HWY_INLINE void normalize_rows(const S* x, int64_t rows, int64_t c, const T* w, const T* b, T eps,
                               Activation act, S* y, T* mean, T* rstd) {
  T m[kRowBlock], s[kRowBlock];
  for (int64_t r = 0; r < rows; ++r)
    m[r] =
        sum_values(x + r * c, c, [](auto, auto v, auto sum) HWY_ATTR { return hn::Add(sum, v); }) /
        T(c);
  // A second pass over the row, now in cache: the variance loses no digits where the mean is large.
  for (int64_t r = 0; r < rows; ++r) {
    const T var = sum_values(x + r * c, c,
                             [&](auto d, auto v, auto sum) HWY_ATTR {
                               const auto from_mean = hn::Sub(v, hn::Set(d, m[r]));
                               return hn::MulAdd(from_mean, from_mean, sum);
                             }) /
                  T(c);
    s[r] = T(1) / std::sqrt(var + eps);
  }
  for (int64_t r = 0; r < rows; ++r)
    for_lanes<T>(c, [&](auto d, int64_t i) HWY_ATTR {
      const auto from_mean = hn::Sub(load(d, x + r * c + i), hn::Set(d, m[r]));
      const auto xhat = hn::Mul(from_mean, hn::Set(d, s[r]));
      auto v = hn::MulAdd(xhat, hn::LoadU(d, w + i), hn::LoadU(d, b + i));
      if (act == Activation::gelu) v = gelu<S>(d, v);
      store(v, d, y + r * c + i);
    });
  if (mean) std::copy_n(m, rows, mean);
  if (rstd) std::copy_n(s, rows, rstd);
}

// f(number of rows, first row) over rows [begin, end) of c elements of S: blocks of up to kRowBlock
// rows and 1 KiB. Larger blocks read and write memory in bursts: add_layer_norm in f32 lost 6 ms of
// 19 at 4 KiB.
template <class S, class F>
HWY_INLINE void each_row_block(int64_t begin, int64_t end, int64_t c, const F& f) {
  constexpr int64_t kBytes = 1024;
  const int64_t block = std::clamp<int64_t>(kBytes / (c * int64_t(sizeof(S))), 1, kRowBlock);
  for (int64_t r = begin; r < end; r += block) f(std::min(block, end - r), r);
}

// With g = dz * w, dz the gradient before the activation, and means taken over the row:
//   dx = rstd * (g - mean(g) - xhat * mean(g * xhat)),  dw += dz * xhat,  db += dz.
// put(d, i, lanes of dx) takes dx, where it is wanted; `dz` holds c elements.
template <class S, class Put, class T = AccType<S>>
HWY_INLINE void row_gradient(const S* dy, const S* x, int64_t c, const T* w, const T* b, T mean,
                             T rstd, Activation act, T* dz, T* dw, T* db, bool dx_wanted,
                             const Put& put) {
  const auto xhat_at = [&](auto d, int64_t i) HWY_ATTR {
    return hn::Mul(hn::Sub(load(d, x + i), hn::Set(d, mean)), hn::Set(d, rstd));
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
    put(d, i, hn::Mul(v, hn::Set(d, rstd)));
  });
}

}  // namespace sg::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
