#include "core/acc_type.h"
#include "core/cpu/parallel.h"
#include "ops/relu/relu.h"

namespace sg {
namespace {

constexpr int64_t kGrain = 1 << 14;

void forward(Stream&, In x, Out y) {
  dispatch<float, double, bf16>(x.dtype(), "relu", [&]<class S>() {
    using T = AccType<S>;
    const S* const from = x.data<S>();
    S* const to = y.data<S>();
    parallel_for(x.numel(), kGrain, [&](int64_t begin, int64_t end) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) to[i] = T(from[i]) < 0 ? S(T(0)) : from[i];
    });
  });
}

void backward(Stream&, In dy, In y, Grad dx) {
  dispatch<float, double, bf16>(dy.dtype(), "relu", [&]<class S>() {
    using T = AccType<S>;
    const S *const from = dy.data<S>(), *const mask = y.data<S>();
    S* const to = dx.tensor.data<S>();
    parallel_for(dy.numel(), kGrain, [&](int64_t begin, int64_t end) {
      if (dx.accumulate) {
#pragma omp simd
        for (int64_t i = begin; i < end; ++i)
          to[i] = S(T(to[i]) + (T(mask[i]) > 0 ? T(from[i]) : T(0)));
      } else {
#pragma omp simd
        for (int64_t i = begin; i < end; ++i) to[i] = T(mask[i]) > 0 ? from[i] : S(T(0));
      }
    });
  });
}

const Register r_fwd{kernels::relu_fwd, DeviceType::cpu, forward};
const Register r_bwd{kernels::relu_bwd, DeviceType::cpu, backward};

}  // namespace
}  // namespace sg
