#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/binary_cross_entropy/binary_cross_entropy_cpu.cpp"
#include <hwy/foreach_target.h>

#include "core/cpu/parallel.h"
#include "core/cpu/simd-inl.h"
#include "core/cpu/simd_register.h"
#include "ops/binary_cross_entropy/binary_cross_entropy.h"

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {
namespace {

constexpr int64_t kGrain = 8;  // rows a thread takes at least

// Targets as the loss takes them.
template <class T>
struct Targets {
  const T* data;
  bool binary;
  T threshold;
  Targets(In targets, const BinaryCrossEntropy& settings)
      : data(targets.data<T>()),
        binary(settings.threshold.has_value()),
        threshold(T(settings.threshold.value_or(0))) {}
  template <class D>
  HWY_INLINE hn::Vec<D> at(D d, int64_t i) const {
    const auto t = hn::LoadU(d, data + i);
    if (!binary) return t;
    return hn::IfThenElseZero(hn::Gt(t, hn::Set(d, threshold)), hn::Set(d, T(1)));
  }
};

// 0; NaN where z is not finite, which the vector exp and max() would not pass on.
template <class D>
HWY_INLINE hn::Vec<D> nan_of(D, hn::Vec<D> z) {
  return hn::Sub(z, z);
}

// -t log sigmoid(z) - (1 - t) log sigmoid(-z) = max(z, 0) - t z + log(1 + exp(-|z|)).
void forward(Stream&, In logits, In targets, const BinaryCrossEntropy& settings, double scale,
             Out parts, Out loss) {
  dispatch<float, double, bf16>(logits.dtype(), "binary_cross_entropy", [&]<class S>() HWY_ATTR {
    using T = AccType<S>;
    const int64_t batch = logits.dim(0), k = logits.dim(1);
    const S* const z = logits.data<S>();
    const Targets<T> t(targets, settings);
    T* const losses = parts.data<T>();
    parallel_for(batch, kGrain, [&](int64_t begin, int64_t end) HWY_ATTR {
      for (int64_t r = begin; r < end; ++r)
        losses[r] = T(scale) * sum_lanes<T>(k, [&](auto d, int64_t i) HWY_ATTR {
                      const auto v = load(d, z + r * k + i);
                      const auto linear =
                          hn::NegMulAdd(t.at(d, r * k + i), v, hn::Max(v, hn::Zero(d)));
                      const auto rest = hn::Log1p(d, exp(d, hn::Neg(hn::Abs(v))));
                      return hn::Add(hn::Add(linear, rest), nan_of(d, v));
                    });
    });
    double total = 0;
    for (int64_t r = 0; r < batch; ++r) total += double(losses[r]);
    *loss.data<T>() = T(total);
  });
}

// dz = dloss scale (sigmoid(z) - t).
void backward(Stream&, In dloss, In logits, In targets, const BinaryCrossEntropy& settings,
              double scale, Grad dlogits) {
  if (!dlogits) return;
  dispatch<float, double, bf16>(logits.dtype(), "binary_cross_entropy", [&]<class S>() HWY_ATTR {
    using T = AccType<S>;
    const int64_t batch = logits.dim(0), k = logits.dim(1);
    const S* const z = logits.data<S>();
    S* const dz = dlogits.tensor.data<S>();
    const Targets<T> t(targets, settings);
    const T factor = *dloss.data<T>() * T(scale);
    parallel_for(batch, kGrain, [&](int64_t begin, int64_t end) HWY_ATTR {
      for_lanes<T>((end - begin) * k, [&](auto d, int64_t j) HWY_ATTR {
        const int64_t i = begin * k + j;
        const auto v = load(d, z + i), one = hn::Set(d, T(1));
        const auto e = exp(d, hn::Neg(hn::Abs(v)));  // never overflows
        const auto sigmoid =
            hn::Div(hn::IfThenElse(hn::Lt(v, hn::Zero(d)), e, one), hn::Add(one, e));
        auto g = hn::Add(hn::Sub(sigmoid, t.at(d, i)), nan_of(d, v));
        g = hn::Mul(g, hn::Set(d, factor));
        if (dlogits.accumulate) g = hn::Add(g, load(d, dz + i));
        store(g, d, dz + i);
      });
    });
  });
}

}  // namespace
}  // namespace sg::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sg {
namespace {
SG_REGISTER_SIMD(kernels::binary_cross_entropy_fwd, forward);
SG_REGISTER_SIMD(kernels::binary_cross_entropy_bwd, backward);
}  // namespace
}  // namespace sg
#endif
