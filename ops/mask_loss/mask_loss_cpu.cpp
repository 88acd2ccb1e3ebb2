// A thread some RoIs.
#include <cmath>

#include "core/acc_type.h"
#include "core/cpu/parallel.h"
#include "ops/mask_loss/mask_loss.h"

namespace sg {
namespace {

void forward(Stream&, In logits, In labels, In targets, double scale, Out parts, Out loss) {
  dispatch<float, double, bf16>(logits.dtype(), "mask_loss", [&]<class S>() {
    using T = AccType<S>;
    const int64_t n = logits.dim(0), classes = logits.dim(3),
                  pixels = targets.numel() / std::max<int64_t>(n, 1);
    parallel_for(n, 1, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const int64_t label = labels.data<int32_t>()[r];
        if (label < 0 || label >= classes)
          fail(ExitCode::data, "mask_loss: RoI {}: class {} of {} does not exist", r, label,
               classes);
        const S* const z = logits.data<S>() + r * pixels * classes + label;
        const uint8_t* const t = targets.data<uint8_t>() + r * pixels;
        double sum = 0;
        for (int64_t i = 0; i < pixels; ++i) {
          if (t[i] > 1)
            fail(ExitCode::data, "mask_loss: RoI {}: expected targets of 0 and 1, found {}", r,
                 t[i]);
          const T v = T(z[i * classes]);
          sum += double((v > 0 ? v : T(0)) - T(t[i]) * v + std::log1p(std::exp(-std::abs(v))));
        }
        parts.data<T>()[r] = T(sum);
      }
    });
    double total = 0;
    for (int64_t r = 0; r < n; ++r) total += double(parts.data<T>()[r]);
    *loss.data<T>() = T(scale * total);
  });
}

void backward(Stream&, In dloss, In logits, In labels, In targets, double scale, Grad dlogits) {
  if (!dlogits.accumulate) dlogits.tensor.zero_();
  dispatch<float, double, bf16>(logits.dtype(), "mask_loss", [&]<class S>() {
    using T = AccType<S>;
    const int64_t n = logits.dim(0), classes = logits.dim(3),
                  pixels = targets.numel() / std::max<int64_t>(n, 1);
    const T factor = T(double(*dloss.data<T>()) * scale);
    parallel_for(n, 1, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const int64_t first = r * pixels * classes + labels.data<int32_t>()[r];
        const S* const z = logits.data<S>() + first;
        const uint8_t* const t = targets.data<uint8_t>() + r * pixels;
        S* const dz = dlogits.tensor.data<S>() + first;
        for (int64_t i = 0; i < pixels; ++i) {
          const T v = T(z[i * classes]), e = std::exp(-std::abs(v));
          const T sigmoid = (v < 0 ? e : T(1)) / (1 + e);
          dz[i * classes] = S(T(dz[i * classes]) + factor * (sigmoid - T(t[i])));
        }
      }
    });
  });
}

const Register r_fwd{kernels::mask_loss_fwd, DeviceType::cpu, forward};
const Register r_bwd{kernels::mask_loss_bwd, DeviceType::cpu, backward};

}  // namespace
}  // namespace sg
