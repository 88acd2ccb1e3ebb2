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

constexpr int64_t kGrain = 64;  // tokens a chunk holds at least

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
    const S* xp = x.data<S>() + b * tokens * c;
    const T shift = T(xp[0]);
    double sum = 0, square = 0;
    for (int64_t t = begin; t < end; ++t) {
      const S* row = xp + t * c;
      sum += double(sum_lanes<T>(c, [&](auto d, int64_t i) HWY_ATTR {
        return hn::Sub(load(d, row + i), hn::Set(d, shift));
      }));
      square += double(sum_lanes<T>(c, [&](auto d, int64_t i) HWY_ATTR {
        const auto v = hn::Sub(load(d, row + i), hn::Set(d, shift));
        return hn::Mul(v, v);
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
        S* yp = y.data<S>() + (n * tokens + t) * c;
        for_lanes<T>(c, [&](auto d, int64_t i) HWY_ATTR {
          const auto xhat = hn::Mul(hn::Sub(load(d, xp + i), hn::Set(d, m)), hn::Set(d, s));
          auto v = hn::MulAdd(xhat, hn::LoadU(d, wp + i), hn::LoadU(d, bp + i));
          if (act == Activation::gelu) v = gelu<S>(d, v);
          store(v, d, yp + i);
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
    // v(d, i, dz, xhat) over the channels of one token.
    const auto each_value = [&](int64_t n, int64_t t, const auto& v) HWY_ATTR {
      const S* xp = x.data<S>() + (n * tokens + t) * c;
      const S* dyp = dy.data<S>() + (n * tokens + t) * c;
      const T m = mean.data<T>()[n], s = rstd.data<T>()[n];
      for_lanes<T>(c, [&](auto d, int64_t i) HWY_ATTR {
        const auto xhat = hn::Mul(hn::Sub(load(d, xp + i), hn::Set(d, m)), hn::Set(d, s));
        auto dz = load(d, dyp + i);
        if (act == Activation::gelu)
          dz = hn::Mul(
              dz, gelu_grad<S>(d, hn::MulAdd(xhat, hn::LoadU(d, wp + i), hn::LoadU(d, bp + i))));
        v(d, i, dz, xhat);
      });
    };
    Tensor scratch = zeros({batch * chunks, 2, c}, dtype_of<T>());
    T* const pq = scratch.data<T>();
    each_chunk(batch, tokens, [&](int64_t n, int64_t unit, int64_t begin, int64_t end) HWY_ATTR {
      T *const p = pq + unit * 2 * c, *const q = p + c;
      for (int64_t t = begin; t < end; ++t)
        each_value(n, t, [&](auto d, int64_t i, auto dz, auto xhat) HWY_ATTR {
          hn::StoreU(hn::MulAdd(dz, xhat, hn::LoadU(d, p + i)), d, p + i);
          hn::StoreU(hn::Add(dz, hn::LoadU(d, q + i)), d, q + i);
        });
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
      const T pw = T(p_mean[size_t(n)]), qw = T(q_mean[size_t(n)]), s = rstd.data<T>()[n];
      for (int64_t t = begin; t < end; ++t) {
        S* dxp = dx.tensor.data<S>() + (n * tokens + t) * c;
        each_value(n, t, [&](auto d, int64_t i, auto dz, auto xhat) HWY_ATTR {
          auto v = hn::Sub(hn::Mul(dz, hn::LoadU(d, wp + i)), hn::Set(d, qw));
          v = hn::Mul(hn::NegMulAdd(xhat, hn::Set(d, pw), v), hn::Set(d, s));
          if (dx.accumulate) v = hn::Add(v, load(d, dxp + i));
          store(v, d, dxp + i);
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
