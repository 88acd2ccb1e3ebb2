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
    store_lanes<T>(c, y + r * c, [&](auto d, int64_t i) SG_INLINE_ATTR {
      const auto from_mean = hn::Sub(load(d, x + r * c + i), hn::Set(d, m[r]));
      const auto xhat = hn::Mul(from_mean, hn::Set(d, s[r]));
      const auto v = hn::MulAdd(xhat, hn::LoadU(d, w + i), hn::LoadU(d, b + i));
      return act == Activation::gelu ? gelu<S>(d, v) : v;
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

// v[j] = f(first element, v[j]) for one vector or two neighbours, from element i on.
template <class D, class V, size_t N, class F>
HWY_INLINE void each_vector(D d, int64_t i, V (&v)[N], const F& f) {
  static_assert(N <= 2);
  v[0] = f(i, v[0]);
  if constexpr (N == 2) v[1] = f(i + int64_t(hn::Lanes(d)), v[1]);
}

// With g = dz * w, dz the gradient before the activation, and means taken over the row:
//   dx = rstd * (g - mean(g) - xhat * mean(g * xhat)),  dw += dz * xhat,  db += dz.
// put(d, i, v) takes dx, where it is wanted: v[j] has the lanes from i + j * Lanes(d) on. `dz`
// holds c elements, for the activations that change it.
template <class S, class Put, class T = AccType<S>>
HWY_INLINE void row_gradient(const S* dy, const S* x, int64_t c, const T* w, const T* b, T mean,
                             T rstd, Activation act, T* dz, T* dw, T* db, bool dx_wanted,
                             const Put& put) {
  const hn::ScalableTag<T> d;
  const hn::CappedTag<T, 1> one;
  const int64_t lanes = int64_t(hn::Lanes(d));
  const auto xhat_at = [&](auto d, int64_t i) SG_INLINE_ATTR {
    return hn::Mul(hn::Sub(load(d, x + i), hn::Set(d, mean)), hn::Set(d, rstd));
  };
  // Adds to dw and db, and to the sums of g and of g * xhat.
  const auto visit = [&](auto d, int64_t i, auto& g_sum, auto& gx_sum) SG_INLINE_ATTR {
    const auto xhat = xhat_at(d, i);
    auto v = load(d, dy + i);
    if (act == Activation::gelu) {
      v = hn::Mul(v, gelu_grad<S>(d, hn::MulAdd(xhat, hn::LoadU(d, w + i), hn::LoadU(d, b + i))));
      hn::StoreU(v, d, dz + i);
    }
    hn::StoreU(hn::MulAdd(v, xhat, hn::LoadU(d, dw + i)), d, dw + i);
    hn::StoreU(hn::Add(v, hn::LoadU(d, db + i)), d, db + i);
    const auto g = hn::Mul(v, hn::LoadU(d, w + i));
    g_sum = hn::Add(g_sum, g);
    gx_sum = hn::Add(gx_sum, hn::Mul(g, xhat));
  };
  auto g_lanes = hn::Zero(d), gx_lanes = hn::Zero(d);
  auto g_rest = hn::Zero(one), gx_rest = hn::Zero(one);
  int64_t i = 0;
  for (; i + lanes <= c; i += lanes) visit(d, i, g_lanes, gx_lanes);
  for (; i < c; ++i) visit(one, i, g_rest, gx_rest);
  if (!dx_wanted) return;
  const auto mean_of = [&](auto sum, auto rest) HWY_ATTR {
    return (hn::GetLane(hn::SumOfLanes(d, sum)) + hn::GetLane(rest)) / T(c);
  };
  const T g_mean = mean_of(g_lanes, g_rest), gx_mean = mean_of(gx_lanes, gx_rest);
  const auto dx_at = [&](auto d, int64_t i) SG_INLINE_ATTR {
    const auto v = act == Activation::gelu ? hn::LoadU(d, dz + i) : load(d, dy + i);
    const auto centred = hn::Sub(hn::Mul(v, hn::LoadU(d, w + i)), hn::Set(d, g_mean));
    return hn::Mul(hn::NegMulAdd(xhat_at(d, i), hn::Set(d, gx_mean), centred), hn::Set(d, rstd));
  };
  for (i = 0; i + 2 * lanes <= c; i += 2 * lanes) {
    hn::Vec<decltype(d)> v[2] = {dx_at(d, i), dx_at(d, i + lanes)};
    put(d, i, v);
  }
  for (; i + lanes <= c; i += lanes) {
    hn::Vec<decltype(d)> v[1] = {dx_at(d, i)};
    put(d, i, v);
  }
  for (; i < c; ++i) {
    hn::Vec<decltype(one)> v[1] = {dx_at(one, i)};
    put(one, i, v);
  }
}

}  // namespace sg::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
