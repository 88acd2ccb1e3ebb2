#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/batch_norm/batch_norm_cpu.cpp"
#include <hwy/foreach_target.h>

#include "core/cpu/parallel.h"
#include "core/cpu/scratch.h"
#include "core/cpu/simd-inl.h"
#include "core/cpu/simd_register.h"
#include "ops/batch_norm/batch_norm.h"
#include "ops/reduce_cpu.h"

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {
namespace {

constexpr int64_t kGrain = 64;            // rows a chunk holds at least
constexpr int64_t kBlockBytes = 1 << 16;  // of x, read twice: the second time from the cache

// Means and sums of squared differences of `seen` rows become those of n rows more (Chan et al.).
template <class T>
void merge(double* mean, double* square, double seen, const T* other_mean, const T* other_square,
           double n, int64_t c) {
  const double share = n / (seen + n);
#pragma omp simd
  for (int64_t i = 0; i < c; ++i) {
    const double delta = double(other_mean[i]) - mean[i];
    mean[i] += delta * share;
    square[i] += double(other_square[i]) + delta * delta * share * seen;
  }
}

// Of differences from the first row, so that sums lose no digits where the mean is large.
void part_of(Stream&, In x, Out part) {
  dispatch<float, double, bf16>(x.dtype(), "batch_norm", [&]<class S>() HWY_ATTR {
    using T = AccType<S>;
    const int64_t c = x.dim(-1), rows = c ? x.numel() / c : 0, chunks = chunks_of(rows, kGrain);
    const int64_t block =
        std::max<int64_t>(8, kBlockBytes / int64_t(sizeof(S)) / std::max(c, int64_t{1}));
    const S* const xp = x.data<S>();
    Tensor moments = zeros({chunks, 2, c}, Dtype::f64);
    Scratch<T> scratch(2 * c);
    parallel_chunks(rows, kGrain, [&](int chunk, int64_t begin, int64_t end) HWY_ATTR {
      double* const of_chunk = moments.data<double>() + chunk * 2 * c;
      T *const mean = scratch.mine(), *const square = mean + c;
      for (int64_t first = begin; first < end; first += block) {
        const int64_t last = std::min(first + block, end);
        const T n = T(last - first);
        std::fill_n(mean, 2 * c, T(0));
        for (int64_t r = first; r < last; ++r)
          for_lanes<T>(c, [&](auto d, int64_t i) HWY_ATTR {
            const auto v = hn::Sub(load(d, xp + r * c + i), load(d, xp + i));
            hn::StoreU(hn::Add(hn::LoadU(d, mean + i), v), d, mean + i);
          });
        for_lanes<T>(c, [&](auto d, int64_t i) HWY_ATTR {
          hn::StoreU(hn::Div(hn::LoadU(d, mean + i), hn::Set(d, n)), d, mean + i);
        });
        for (int64_t r = first; r < last; ++r)
          for_lanes<T>(c, [&](auto d, int64_t i) HWY_ATTR {
            const auto v =
                hn::Sub(hn::Sub(load(d, xp + r * c + i), load(d, xp + i)), hn::LoadU(d, mean + i));
            hn::StoreU(hn::MulAdd(v, v, hn::LoadU(d, square + i)), d, square + i);
          });
        merge(of_chunk, of_chunk + c, double(first - begin), mean, square, double(n), c);
      }
    });
    Tensor whole = zeros({2, c}, Dtype::f64);
    double* const mean = whole.data<double>();
    for (int64_t k = 0; rows && k < chunks; ++k) {
      const double* const of_chunk = moments.data<double>() + k * 2 * c;
      const int64_t begin = rows * k / chunks, end = rows * (k + 1) / chunks;
      merge(mean, mean + c, double(begin), of_chunk, of_chunk + c, double(end - begin), c);
    }
    T* const out = part.data<T>();
    for (int64_t i = 0; i < c; ++i)
      out[i] = T(mean[i] + (rows ? double(T(xp[i])) : 0)), out[c + i] = T(mean[c + i]);
    out[2 * c] = T(rows);
  });
}

void make_stats(Stream&, In parts, const BatchNormSettings& s, Out running_mean, Out running_var,
                Out stats) {
  dispatch<float, double>(stats.dtype(), "batch_norm", [&]<class T>() {
    const int64_t c = running_mean.numel();
    T *const out = stats.data<T>(), *const rm = running_mean.data<T>(),
             *const rv = running_var.data<T>();
    const auto put = [&](int64_t i, double mean, double var) {
      out[i] = T(mean), out[c + i] = T(1 / std::sqrt(var + s.eps));
    };
    if (!parts) {
      for (int64_t i = 0; i < c; ++i) put(i, double(rm[i]), double(rv[i]));
      out[2 * c] = 0;
      return;
    }
    Tensor moments = zeros({2, c}, Dtype::f64);
    double *const mean = moments.data<double>(), *const square = mean + c;
    double rows = 0;
    for (int64_t p = 0; p < parts.dim(0); ++p) {
      const T* const part = parts.data<T>() + p * (2 * c + 1);
      const double n = double(part[2 * c]);
      if (n > 0) merge(mean, square, rows, part, part + c, n, c);
      rows += n;
    }
    for (int64_t i = 0; i < c; ++i) {
      put(i, mean[i], square[i] / rows);
      const double unbiased = square[i] / (rows - 1);
      if (!std::isfinite(mean[i]) || !std::isfinite(unbiased)) continue;
      rm[i] = T((1 - s.momentum) * double(rm[i]) + s.momentum * mean[i]);
      rv[i] = T((1 - s.momentum) * double(rv[i]) + s.momentum * unbiased);
    }
    out[2 * c] = T(rows);
  });
}

// What a channel needs, side by side in memory: z = (x - mean) rstd w + b.
template <class T>
struct Channels {
  const T *mean, *rstd, *w, *b;
  Channels(In w, In b, In stats)
      : mean(stats.data<T>()), rstd(mean + w.numel()), w(w.data<T>()), b(b.data<T>()) {}
  template <class D>
  HWY_INLINE hn::Vec<D> normalized(D d, hn::Vec<D> x, int64_t i) const {
    return hn::Mul(hn::Sub(x, hn::LoadU(d, mean + i)), hn::LoadU(d, rstd + i));
  }
  template <class D>
  HWY_INLINE hn::Vec<D> affine(D d, hn::Vec<D> xhat, int64_t i) const {
    return hn::MulAdd(xhat, hn::LoadU(d, w + i), hn::LoadU(d, b + i));
  }
};

int64_t grain(int64_t c) { return (1 << 14) / std::max<int64_t>(c, 1) + 1; }

void forward(Stream&, In x, In w, In b, In stats, Activation act, Out y) {
  dispatch<float, double, bf16>(x.dtype(), "batch_norm", [&]<class S>() HWY_ATTR {
    using T = AccType<S>;
    const int64_t c = x.dim(-1), rows = c ? x.numel() / c : 0;
    const Channels<T> channels(w, b, stats);
    const bool relu = act == Activation::relu;
    parallel_for(rows, grain(c), [&](int64_t begin, int64_t end) HWY_ATTR {
      for (int64_t r = begin; r < end; ++r) {
        const S* const xp = x.data<S>() + r * c;
        S* const yp = y.data<S>() + r * c;
        for_lanes<T>(c, [&](auto d, int64_t i) HWY_ATTR {
          auto z = channels.affine(d, channels.normalized(d, load(d, xp + i), i), i);
          if (relu) z = hn::Max(hn::Zero(d), z);  // in this order x86 keeps NaN
          store(z, d, yp + i);
        });
      }
    });
  });
}

// f(d, i, dz, xhat) over the channels of row r.
template <class S, class T, class F>
HWY_INLINE void each_gradient(In dy, In x, const Channels<T>& channels, Activation act, int64_t r,
                              const F& f) {
  const int64_t c = x.dim(-1);
  const S *const xp = x.data<S>() + r * c, *const dyp = dy.data<S>() + r * c;
  const bool relu = act == Activation::relu;
  for_lanes<T>(c, [&](auto d, int64_t i) HWY_ATTR {
    const auto xhat = channels.normalized(d, load(d, xp + i), i);
    auto dz = load(d, dyp + i);
    if (relu) dz = hn::IfThenZeroElse(hn::Le(channels.affine(d, xhat, i), hn::Zero(d)), dz);
    f(d, i, dz, xhat);
  });
}

void sums_of(Stream&, In dy, In x, In w, In b, In stats, Activation act, Out sums, Grad dw,
             Grad db) {
  dispatch<float, double, bf16>(x.dtype(), "batch_norm", [&]<class S>() HWY_ATTR {
    using T = AccType<S>;
    const int64_t c = x.dim(-1), rows = c ? x.numel() / c : 0;
    const int chunks = chunks_of(rows, kGrain);
    const Channels<T> channels(w, b, stats);
    Tensor parts = zeros({chunks, 2, c}, dtype_of<T>());
    T* const first = parts.data<T>();
    parallel_chunks(rows, kGrain, [&](int chunk, int64_t begin, int64_t end) HWY_ATTR {
      T *const q = first + chunk * 2 * c, *const p = q + c;
      for (int64_t r = begin; r < end; ++r)
        each_gradient<S>(dy, x, channels, act, r,
                         [&](auto d, int64_t i, auto dz, auto xhat) HWY_ATTR {
                           hn::StoreU(hn::Add(dz, hn::LoadU(d, q + i)), d, q + i);
                           hn::StoreU(hn::MulAdd(dz, xhat, hn::LoadU(d, p + i)), d, p + i);
                         });
    });
    sum_chunks(first, chunks, 2 * c, {sums, false});
    sum_chunks(sums.data<T>(), 1, c, db);
    sum_chunks(sums.data<T>() + c, 1, c, dw);
  });
}

// dx = w rstd (dz - mean(dz) - xhat mean(dz xhat)), means over the rows of all parts; without sums
// dx = w rstd dz.
void dx_of(Stream&, In dy, In x, In w, In b, In stats, In sums, Activation act, Grad dx) {
  dispatch<float, double, bf16>(x.dtype(), "batch_norm", [&]<class S>() HWY_ATTR {
    using T = AccType<S>;
    const int64_t c = x.dim(-1), rows = c ? x.numel() / c : 0;
    const Channels<T> channels(w, b, stats);
    Tensor means = zeros({2, c}, dtype_of<T>());
    T *const dz_mean = means.data<T>(), *const dzx_mean = dz_mean + c;
    if (sums) {
      sum_chunks(sums.data<T>(), int(sums.dim(0)), 2 * c, {means, false});
      for (T& v : means.span<T>()) v /= stats.data<T>()[2 * c];
    }
    parallel_for(rows, grain(c), [&](int64_t begin, int64_t end) HWY_ATTR {
      for (int64_t r = begin; r < end; ++r) {
        S* const to = dx.tensor.data<S>() + r * c;
        each_gradient<S>(
            dy, x, channels, act, r, [&](auto d, int64_t i, auto dz, auto xhat) HWY_ATTR {
              auto v = hn::Sub(dz, hn::LoadU(d, dz_mean + i));
              v = hn::NegMulAdd(xhat, hn::LoadU(d, dzx_mean + i), v);
              v = hn::Mul(v,
                          hn::Mul(hn::LoadU(d, channels.w + i), hn::LoadU(d, channels.rstd + i)));
              if (dx.accumulate) v = hn::Add(v, load(d, to + i));
              store(v, d, to + i);
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
SG_REGISTER_SIMD(kernels::batch_norm_part, part_of);
SG_REGISTER_SIMD(kernels::batch_norm_stats, make_stats);
SG_REGISTER_SIMD(kernels::batch_norm_fwd, forward);
SG_REGISTER_SIMD(kernels::batch_norm_sums, sums_of);
SG_REGISTER_SIMD(kernels::batch_norm_dx, dx_of);
}  // namespace
}  // namespace sg
#endif
