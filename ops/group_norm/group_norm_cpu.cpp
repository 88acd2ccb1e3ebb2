#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/group_norm/group_norm_cpu.cpp"
#include <hwy/foreach_target.h>

#include "core/cpu/parallel.h"
#include "core/cpu/simd-inl.h"
#include "core/cpu/simd_register.h"
#include "ops/group_norm/group_norm.h"
#include "ops/reduce_cpu.h"

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {
namespace {

constexpr int64_t kGrain = 64;       // tokens a chunk holds at least
constexpr int64_t kSumTerms = 1024;  // elements that are summed in T, before sums go on in double

// f(image, unit, begin, end) for fixed chunks of the tokens of every image; `unit` numbers the
// chunks of the whole batch.
template <class F>
void each_chunk(int64_t batch, int64_t tokens, const F& f) {
  const int64_t chunks = chunks_of(tokens, kGrain);
  parallel_for(batch * chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t u = begin; u < end; ++u)
      f(u / chunks, u, tokens * (u % chunks) / chunks, tokens * (u % chunks + 1) / chunks);
  });
}

struct Moments {
  double mean = 0, rstd = 0;
};

// Sums of (x - shift) and its square, with the image's first value as the shift: the variance loses
// no digits where the mean is large.
template <class S>
std::vector<Moments> moments_of(In x, double eps) {
  using T = AccType<S>;
  const int64_t batch = x.dim(0), c = x.dim(3), tokens = x.dim(1) * x.dim(2);
  const int64_t chunks = chunks_of(tokens, kGrain);
  std::vector<double> partial(size_t(batch * chunks * 2));
  each_chunk(batch, tokens, [&](int64_t b, int64_t unit, int64_t begin, int64_t end) HWY_ATTR {
    const S* const xp = x.data<S>() + b * tokens * c;
    const T shift = T(xp[0]);
    double sum = 0, square = 0;
    for (int64_t first = begin * c, n; first < end * c; first += n) {
      n = std::min(kSumTerms, end * c - first);
      sum += double(sum_values(xp + first, n, [&](auto d, auto v, auto so_far) HWY_ATTR {
        return hn::Add(so_far, hn::Sub(v, hn::Set(d, shift)));
      }));
      square += double(sum_values(xp + first, n, [&](auto d, auto v, auto so_far) HWY_ATTR {
        v = hn::Sub(v, hn::Set(d, shift));
        return hn::MulAdd(v, v, so_far);
      }));
    }
    partial[size_t(2 * unit)] = sum, partial[size_t(2 * unit + 1)] = square;
  });
  std::vector<Moments> result;
  for (int64_t b = 0; b < batch; ++b) {
    double sum = 0, square = 0;
    for (int64_t k = b * chunks; k < (b + 1) * chunks; ++k)
      sum += partial[size_t(2 * k)], square += partial[size_t(2 * k + 1)];
    const double n = double(tokens * c), mean = sum / n;
    const double var = std::max(0.0, square / n - mean * mean);
    result.push_back({double(T(x.data<S>()[b * tokens * c])) + mean, 1 / std::sqrt(var + eps)});
  }
  return result;
}

void forward(Stream&, In x, In w, In b, double eps, Activation act, Out y, Out mean, Out rstd) {
  dispatch<float, double, bf16>(x.dtype(), "group_norm", [&]<class S>() HWY_ATTR {
    using T = AccType<S>;
    const int64_t c = x.dim(3), tokens = x.dim(1) * x.dim(2);
    const std::vector<Moments> moments = moments_of<S>(x, eps);
    for (size_t i = 0; mean && i < moments.size(); ++i) {
      mean.data<T>()[i] = T(moments[i].mean);
      rstd.data<T>()[i] = T(moments[i].rstd);
    }
    const T *wp = w.data<T>(), *bp = b.data<T>();
    each_chunk(x.dim(0), tokens, [&](int64_t n, int64_t, int64_t begin, int64_t end) HWY_ATTR {
      const T m = T(moments[size_t(n)].mean), s = T(moments[size_t(n)].rstd);
      for (int64_t t = begin; t < end; ++t) {
        const S* xp = x.data<S>() + (n * tokens + t) * c;
        store_lanes<T>(
            c, y.data<S>() + (n * tokens + t) * c, [&](auto d, int64_t i) SG_INLINE_ATTR {
              const auto xhat = hn::Mul(hn::Sub(load(d, xp + i), hn::Set(d, m)), hn::Set(d, s));
              const auto v = hn::MulAdd(xhat, hn::LoadU(d, wp + i), hn::LoadU(d, bp + i));
              return act == Activation::gelu ? gelu<S>(d, v) : v;
            });
      }
    });
  });
}

// With dz the gradient before the activation, per image and channel P = sum dz * xhat, Q = sum dz:
//   dw = sum P, db = sum Q (over images);
//   dx = rstd * (dz * w - mean(Q w) - xhat * mean(P w)), means over the image's elements.
void backward(Stream&, In dy, In x, In w, In b, In mean, In rstd, Activation act, Grad dx, Grad dw,
              Grad db) {
  dispatch<float, double, bf16>(x.dtype(), "group_norm", [&]<class S>() HWY_ATTR {
    using T = AccType<S>;
    const int64_t batch = x.dim(0), c = x.dim(3), tokens = x.dim(1) * x.dim(2);
    const int chunks = chunks_of(tokens, kGrain);
    const T *wp = w.data<T>(), *bp = b.data<T>();
    const T *means = mean.data<T>(), *rstds = rstd.data<T>();
    const S *xp = x.data<S>(), *dyp = dy.data<S>();
    // dz and xhat of some channels of token t of image n.
    const auto values_at = [&](auto d, int64_t n, int64_t t, int64_t i) SG_INLINE_ATTR {
      struct {
        hn::Vec<decltype(d)> dz, xhat;
      } v;
      const int64_t at = (n * tokens + t) * c + i;
      const auto from_mean = hn::Sub(load(d, xp + at), hn::Set(d, means[n]));
      v.xhat = hn::Mul(from_mean, hn::Set(d, rstds[n]));
      v.dz = load(d, dyp + at);
      if (act == Activation::gelu) {
        const auto z = hn::MulAdd(v.xhat, hn::LoadU(d, wp + i), hn::LoadU(d, bp + i));
        v.dz = hn::Mul(v.dz, gelu_grad<S>(d, z));
      }
      return v;
    };
    Tensor scratch = zeros({batch * chunks, 2, c}, dtype_of<T>());
    T* const pq = scratch.data<T>();
    each_chunk(batch, tokens, [&](int64_t n, int64_t unit, int64_t begin, int64_t end) HWY_ATTR {
      T *const p = pq + unit * 2 * c, *const q = p + c;
      constexpr int64_t kTokens = 4;  // for one load and store of the sums
      for (int64_t t = begin; t < end; t += kTokens) {
        const int64_t last = std::min(t + kTokens, end);
        for_lanes<T>(c, [&](auto d, int64_t i) HWY_ATTR {
          auto p_sum = hn::LoadU(d, p + i), q_sum = hn::LoadU(d, q + i);
          for (int64_t k = t; k < last; ++k) {
            const auto v = values_at(d, n, k, i);
            p_sum = hn::MulAdd(v.dz, v.xhat, p_sum);
            q_sum = hn::Add(v.dz, q_sum);
          }
          hn::StoreU(p_sum, d, p + i);
          hn::StoreU(q_sum, d, q + i);
        });
      }
    });
    sum_chunks(pq, int(batch) * chunks, 2 * c, dw);
    sum_chunks(pq + c, int(batch) * chunks, 2 * c, db);
    if (!dx) return;
    std::vector<double> p_mean(static_cast<size_t>(batch)), q_mean(p_mean);  // of P w and Q w
    for (int64_t u = 0; u < batch * chunks; ++u)
      for (int64_t i = 0; i < c; ++i) {
        p_mean[size_t(u / chunks)] += double(pq[u * 2 * c + i] * wp[i]) / double(tokens * c);
        q_mean[size_t(u / chunks)] += double(pq[u * 2 * c + c + i] * wp[i]) / double(tokens * c);
      }
    each_chunk(batch, tokens, [&](int64_t n, int64_t, int64_t begin, int64_t end) HWY_ATTR {
      const T pw = T(p_mean[size_t(n)]), qw = T(q_mean[size_t(n)]), s = rstds[n];
      for (int64_t t = begin; t < end; ++t) {
        S* dxp = dx.tensor.data<S>() + (n * tokens + t) * c;
        store_lanes<T>(c, dxp, [&](auto d, int64_t i) SG_INLINE_ATTR {
          const auto [dz, xhat] = values_at(d, n, t, i);
          auto v = hn::Sub(hn::Mul(dz, hn::LoadU(d, wp + i)), hn::Set(d, qw));
          v = hn::Mul(hn::NegMulAdd(xhat, hn::Set(d, pw), v), hn::Set(d, s));
          return dx.accumulate ? hn::Add(v, load(d, dxp + i)) : v;
        });
      }
    });
  });
}

}  // namespace
}  // namespace sg::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sg {
namespace {
SG_REGISTER_SIMD(kernels::group_norm_fwd, forward);
SG_REGISTER_SIMD(kernels::group_norm_bwd, backward);
}  // namespace
}  // namespace sg
#endif
