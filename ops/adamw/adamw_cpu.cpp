#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/adamw/adamw_cpu.cpp"
#include <hwy/foreach_target.h>

#include <array>

#include "core/cpu/parallel.h"
#include "core/cpu/simd-inl.h"
#include "core/cpu/simd_register.h"
#include "ops/adamw/adamw.h"

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {
namespace {

constexpr int64_t kGrain = 1 << 14;  // elements a thread takes at least

void adamw(Stream&, Out p, In g, Out m, Out v, Out ema, const std::vector<AdamWSegment>& segments,
           const AdamWSettings& s) {
  dispatch<float, double>(p.dtype(), "adamw", [&]<class T>() HWY_ATTR {
    T *pp = p.data<T>(), *mp = m.data<T>(), *vp = v.data<T>(), *ep = ema ? ema.data<T>() : nullptr;
    const T* gp = g.data<T>();
    const double correction1 = 1 - std::pow(s.beta1, double(s.step));
    const double correction2 = std::sqrt(1 - std::pow(s.beta2, double(s.step)));
    parallel_for(p.numel(), kGrain, [&](int64_t begin, int64_t end) HWY_ATTR {
      for (const AdamWSegment& segment : segments) {
        const int64_t first = std::max(begin, segment.begin), last = std::min(end, segment.end);
        const double lr = s.lr * segment.lr_scale;
        const double decay = lr * s.weight_decay * segment.weight_decay_scale;
        for_lanes<T>(last - first, [&](auto d, int64_t i) HWY_ATTR {
          i += first;
          const auto grad = hn::Mul(hn::LoadU(d, gp + i), set(d, s.grad_scale));
          auto mean = hn::LoadU(d, mp + i), square = hn::LoadU(d, vp + i);
          mean = hn::MulAdd(set(d, 1 - s.beta1), hn::Sub(grad, mean), mean);
          square = hn::MulAdd(set(d, 1 - s.beta2), hn::Sub(hn::Mul(grad, grad), square), square);
          const auto root = hn::Div(hn::Sqrt(square), set(d, correction2));
          const auto step = hn::Div(mean, hn::Add(root, set(d, s.eps)));
          // Decay and step are added before they meet p, which is rounded once: 1 - decay alone
          // would lose most of a small decay.
          auto value = hn::LoadU(d, pp + i);
          const auto change =
              hn::MulAdd(set(d, lr / correction1), step, hn::Mul(set(d, decay), value));
          value = hn::Sub(value, change);
          hn::StoreU(mean, d, mp + i);
          hn::StoreU(square, d, vp + i);
          hn::StoreU(value, d, pp + i);
          if (ep) {
            const auto old = hn::LoadU(d, ep + i);
            hn::StoreU(hn::MulAdd(set(d, 1 - s.ema_decay), hn::Sub(value, old), old), d, ep + i);
          }
        });
      }
    });
  });
}

template <class D>
hn::Vec<D> load_f64(D d, const double* from) {
  return hn::LoadU(d, from);
}
template <class D>
hn::Vec<D> load_f64(D d, const float* from) {
  return hn::PromoteTo(d, hn::LoadU(hn::Rebind<float, D>(), from));
}

void sum_of_squares(Stream&, In g, Out result) {
  dispatch<float, double>(g.dtype(), "sum_of_squares", [&]<class T>() HWY_ATTR {
    std::array<double, kMaxChunks> partial{};
    parallel_chunks(g.numel(), kGrain, [&](int chunk, int64_t begin, int64_t end) HWY_ATTR {
      const T* gp = g.data<T>() + begin;
      partial[size_t(chunk)] = sum_lanes<double>(end - begin, [&](auto d, int64_t i) HWY_ATTR {
        const auto v = load_f64(d, gp + i);
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
