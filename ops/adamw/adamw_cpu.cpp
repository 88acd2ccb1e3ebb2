#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/adamw/adamw_cpu.cpp"
#include <hwy/foreach_target.h>

#include <array>
#include <cmath>

#include "core/cpu/parallel.h"
#include "core/cpu/simd-inl.h"
#include "core/cpu/simd_register.h"
#include "ops/adamw/adamw.h"

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {
namespace {

constexpr int64_t kGrain = 1 << 14;  // elements a thread takes at least

template <class T>
void update(const AdamWBuffers& b, const AdamWPlan& plan, const AdamWSettings& s, double step_lr,
            double correction1, double correction2, double grad_scale, double ema_share) {
  T *pp = b.p.data<T>(), *mp = b.m.data<T>(), *vp = b.v.data<T>();
  T* const ep = s.ema_decay > 0 ? b.ema.data<T>() : nullptr;
  bf16* const narrow = b.bf16_values ? b.bf16_values.data<bf16>() : nullptr;
  const T* gp = b.g.data<T>();
  const double limit = s.clip_value();
  parallel_for(b.p.numel(), kGrain, [&](int64_t begin, int64_t end) HWY_ATTR {
    for (const AdamWSegment& segment : plan.segments) {
      const int64_t first = std::max(begin, segment.begin), last = std::min(end, segment.end);
      const double lr = step_lr * segment.lr_scale;
      const double decay = lr * s.weight_decay * segment.weight_decay_scale;
      for_lanes<T>(last - first, [&](auto d, int64_t i) HWY_ATTR {
        i += first;
        const auto grad = hn::Clamp(hn::Mul(hn::LoadU(d, gp + i), set(d, grad_scale)),
                                    set(d, -limit), set(d, limit));
        auto mean = hn::LoadU(d, mp + i), square = hn::LoadU(d, vp + i);
        mean = hn::MulAdd(set(d, 1 - s.beta1), hn::Sub(grad, mean), mean);
        square = hn::MulAdd(set(d, 1 - s.beta2), hn::Sub(hn::Mul(grad, grad), square), square);
        const auto root = hn::Div(hn::Sqrt(square), set(d, correction2));
        const auto step = hn::Div(mean, hn::Add(root, set(d, s.eps)));
        // Decay and step are summed first, so that p is rounded once. Rounding 1 - decay would lose
        // most of a small decay.
        auto value = hn::LoadU(d, pp + i);
        const auto change =
            hn::MulAdd(set(d, lr / correction1), step, hn::Mul(set(d, decay), value));
        value = hn::Sub(value, change);
        hn::StoreU(mean, d, mp + i);
        hn::StoreU(square, d, vp + i);
        hn::StoreU(value, d, pp + i);
        if constexpr (std::is_same_v<T, AccType<bf16>>)
          if (narrow) store(value, d, narrow + i);
        if (ep) {
          const auto old = hn::LoadU(d, ep + i);
          hn::StoreU(hn::MulAdd(set(d, ema_share), hn::Sub(value, old), old), d, ep + i);
        }
      });
    }
  });
}

template <class T>
void update_ema(const AdamWBuffers& b, const AdamWPlan& plan, double ema_share) {
  const T* const pp = b.p.data<T>();
  T* const ep = b.ema.data<T>();
  for (const AdamWSegment& segment : plan.segments)
    for_lanes<T>(segment.end - segment.begin, [&](auto d, int64_t i) HWY_ATTR {
      i += segment.begin;
      const auto old = hn::LoadU(d, ep + i);
      const auto step = hn::Sub(hn::LoadU(d, pp + i), old);
      hn::StoreU(hn::MulAdd(set(d, ema_share), step, old), d, ep + i);
    });
}

void adamw(Stream&, const AdamWBuffers& b, const AdamWPlan& plan, const AdamWSettings& s,
           In control, In loss, In sum, Out outcome) {
  dispatch<float, double>(b.p.dtype(), "adamw", [&]<class T>() HWY_ATTR {
    const double* const c = control.data<double>();
    double grad_scale = c[3];
    const double norm = std::sqrt(*sum.data<double>()) * grad_scale;
    const double loss_value = loss ? loss.item() : 0;
    const bool applied = std::isfinite(norm) && std::isfinite(loss_value);
    const double clip = s.clip_norm();
    if (clip > 0 && norm > clip) grad_scale *= clip / (norm + 1e-6);
    double* const o = outcome.data<double>();
    o[0] = norm, o[1] = applied, o[2] = loss_value;
    if (applied)
      update<T>(b, plan, s, c[0], c[1], c[2], grad_scale, c[4]);
    else if (s.ema_decay > 0)
      update_ema<T>(b, plan, c[4]);
  });
}

void sum_of_squares(Stream&, In g, Out result) {
  dispatch<float, double>(g.dtype(), "sum_of_squares", [&]<class T>() HWY_ATTR {
    std::array<double, kMaxChunks> partial{};
    parallel_chunks(g.numel(), kGrain, [&](int chunk, int64_t begin, int64_t end) HWY_ATTR {
      const T* gp = g.data<T>() + begin;
      partial[size_t(chunk)] = sum_lanes<double>(end - begin, [&](auto d, int64_t i) HWY_ATTR {
        const auto v = load(d, gp + i);
        return hn::Mul(v, v);
      });
    });
    double sum = 0;
    for (double part : partial) sum += part;
    *result.data<double>() = sum;
  });
}

}  // namespace
}  // namespace sg::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sg {
namespace {
SG_REGISTER_SIMD(kernels::adamw, adamw);
SG_REGISTER_SIMD(kernels::sum_of_squares, sum_of_squares);
}  // namespace
}  // namespace sg
#endif
