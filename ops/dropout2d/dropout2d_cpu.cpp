#include "core/acc_type.h"
#include "core/cpu/parallel.h"
#include "ops/dropout2d/dropout2d.h"

namespace sg {
namespace {

void scale_channels(Stream&, In x, In keep, Grad y) {
  dispatch<float, double, bf16>(x.dtype(), "dropout2d", [&]<class S>() {
    using T = AccType<S>;
    const int64_t pixels = x.dim(1) * x.dim(2), c = x.dim(3);
    parallel_for(x.dim(0) * pixels, 64, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const S* const from = x.data<S>() + i * c;
        const T* const factors = keep.data<T>() + i / pixels * c;
        S* const to = y.tensor.data<S>() + i * c;
        if (!y.accumulate) {
#pragma omp simd
          for (int64_t k = 0; k < c; ++k) to[k] = S(T(from[k]) * factors[k]);
        } else {
#pragma omp simd
          for (int64_t k = 0; k < c; ++k) to[k] = S(T(to[k]) + T(from[k]) * factors[k]);
        }
      }
    });
  });
}

const Register r{kernels::dropout2d, DeviceType::cpu, scale_channels};

}  // namespace
}  // namespace sg
