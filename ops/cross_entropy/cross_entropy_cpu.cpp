#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cross_entropy/cross_entropy_cpu.cpp"
#include <hwy/foreach_target.h>

#include "core/cpu/parallel.h"
#include "core/cpu/simd-inl.h"
#include "core/cpu/simd_register.h"
#include "ops/cross_entropy/cross_entropy.h"

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {
namespace {

constexpr int64_t kGrain = 8;  // rows a thread takes at least

// With z* the largest logit:
//   -sum_k t log_softmax(z) = sum_k t (z* - z) + sum_k t log sum exp(z - z*).
void forward(Stream&, In logits, In targets, Out per_sample, Out softmax, Out loss) {
  dispatch<float, double, bf16>(logits.dtype(), "soft_cross_entropy", [&]<class S>() HWY_ATTR {
    using T = AccType<S>;
    const int64_t batch = logits.dim(0), k = logits.dim(1);
    T* const losses = per_sample.data<T>();
    parallel_for(batch, kGrain, [&](int64_t begin, int64_t end) HWY_ATTR {
      for (int64_t r = begin; r < end; ++r) {
        const S* z = logits.data<S>() + r * k;
        const T* t = targets.data<T>() + r * k;
        T top = T(z[0]);
        for (int64_t i = 1; i < k; ++i) top = std::max(top, T(z[i]));
        T sum = sum_lanes<T>(k, [&](auto d, int64_t i) HWY_ATTR {
          return exp(d, hn::Sub(load(d, z + i), hn::Set(d, top)));
        });
        const T target_sum =
            sum_lanes<T>(k, [&](auto d, int64_t i) HWY_ATTR { return hn::LoadU(d, t + i); });
        const T below = sum_lanes<T>(k, [&](auto d, int64_t i) HWY_ATTR {
          return hn::Mul(hn::LoadU(d, t + i), hn::Sub(hn::Set(d, top), load(d, z + i)));
        });
        losses[r] = below + target_sum * std::log(sum);
        // The vector exp of a NaN is 0: keep it from becoming a finite gradient.
        if (std::isnan(losses[r])) sum = losses[r];
        if (softmax) softmax.data<T>()[2 * r] = top, softmax.data<T>()[2 * r + 1] = sum;
      }
    });
    double total = 0;
    for (int64_t r = 0; r < batch; ++r) total += double(losses[r]);
    *loss.data<T>() = T(total / double(batch));
  });
}

// dz = dloss / B (softmax(z) sum_k t - t).
void backward(Stream&, In dloss, In logits, In targets, In softmax, Grad dlogits) {
  if (!dlogits) return;
  dispatch<float, double, bf16>(logits.dtype(), "soft_cross_entropy", [&]<class S>() HWY_ATTR {
    using T = AccType<S>;
    const int64_t batch = logits.dim(0), k = logits.dim(1);
    const T scale = *dloss.data<T>() / T(batch);
    parallel_for(batch, kGrain, [&](int64_t begin, int64_t end) HWY_ATTR {
      for (int64_t r = begin; r < end; ++r) {
        const S* z = logits.data<S>() + r * k;
        const T* t = targets.data<T>() + r * k;
        const T top = softmax.data<T>()[2 * r], sum = softmax.data<T>()[2 * r + 1];
        const T target_sum =
            sum_lanes<T>(k, [&](auto d, int64_t i) HWY_ATTR { return hn::LoadU(d, t + i); });
        S* dz = dlogits.tensor.data<S>() + r * k;
        for_lanes<T>(k, [&](auto d, int64_t i) HWY_ATTR {
          const auto e = exp(d, hn::Sub(load(d, z + i), hn::Set(d, top)));
          auto v = hn::MulSub(e, hn::Set(d, target_sum / sum), hn::LoadU(d, t + i));
          v = hn::Mul(v, hn::Set(d, scale));
          if (dlogits.accumulate) v = hn::Add(v, load(d, dz + i));
          store(v, d, dz + i);
        });
      }
    });
  });
}

void one_hot(Stream&, In labels, In changes, In weights, double smoothing, Out targets) {
  const int64_t batch = targets.dim(0), classes = targets.dim(1);
  const auto label_of = [&](int64_t sample) {
    const int32_t label = labels.data<int32_t>()[sample];
    if (label < 0 || label >= classes)
      fail(ExitCode::data, "smooth_one_hot: label {} of sample {} is outside [0, {})", label,
           sample, classes);
    return label;
  };
  const auto* change = changes ? static_cast<const MixErase*>(changes.raw()) : nullptr;
  // Label of the partner, and the share of the image's own.
  const auto mixed = [&](int64_t r) {
    if (!change) return std::pair(label_of(r), 1.0);
    const int64_t partner = change[r].partner;
    if (partner < 0 || partner >= batch)
      fail(ExitCode::data, "smooth_one_hot: partner {} of sample {} is outside the batch of {}",
           partner, r, batch);
    return std::pair(label_of(partner), double(change[r].label_lambda));
  };
  dispatch<float, double>(targets.dtype(), "smooth_one_hot", [&]<class T>() {
    const double off = smoothing / double(classes), on = 1 - smoothing;
    const T* const w = weights ? weights.data<T>() : nullptr;
    double sum = 0;  // of the weights of the labels
    for (int64_t r = 0; w && r < batch; ++r) {
      const int32_t own = label_of(r);
      const auto [other, share] = mixed(r);
      sum += share * double(w[own]) + (1 - share) * double(w[other]);
    }
    for (int64_t r = 0; r < batch; ++r) {
      T* t = targets.data<T>() + r * classes;
      const auto target = [&](int64_t c, double value) {
        return T(w ? value * double(w[c]) * (double(batch) / sum) : value);
      };
      for (int64_t c = 0; c < classes; ++c) t[c] = target(c, off);
      const int32_t own = label_of(r);
      const auto [other, share] = mixed(r);
      t[own] = target(own, other == own ? off + on : off + on * share);
      if (other != own) t[other] = target(other, off + on * (1 - share));
    }
  });
}

}  // namespace
}  // namespace sg::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sg {
namespace {
SG_REGISTER_SIMD(kernels::cross_entropy_fwd, forward);
SG_REGISTER_SIMD(kernels::cross_entropy_bwd, backward);
SG_REGISTER_SIMD(kernels::smooth_one_hot, one_hot);
}  // namespace
}  // namespace sg
#endif
