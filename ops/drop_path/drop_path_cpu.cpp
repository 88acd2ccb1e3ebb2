#include "core/acc_type.h"
#include "core/cpu/parallel.h"
#include "ops/drop_path/drop_path.h"

namespace sg {
namespace {

constexpr int64_t kGrain = 1 << 14;

// f(sample, begin, end) over the elements of each sample.
template <class F>
void each_sample(int64_t batch, int64_t n, const F& f) {
  for (int64_t b = 0; b < batch; ++b)
    parallel_for(n, kGrain, [&](int64_t begin, int64_t end) { f(b, b * n + begin, b * n + end); });
}

void forward(Stream&, In x, In branch, In keep, Out y) {
  dispatch<float, double, bf16>(x.dtype(), "drop_path", [&]<class S>() {
    using T = AccType<S>;
    const S *a = x.data<S>(), *b = branch.data<S>();
    S* to = y.data<S>();
    if (!keep) {
      parallel_for(x.numel(), kGrain, [&](int64_t begin, int64_t end) {
#pragma omp simd
        for (int64_t i = begin; i < end; ++i) to[i] = S(T(a[i]) + T(b[i]));
      });
      return;
    }
    each_sample(x.dim(0), x.numel() / x.dim(0), [&](int64_t sample, int64_t begin, int64_t end) {
      const T k = keep.data<T>()[sample];
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) to[i] = S(T(a[i]) + k * T(b[i]));
    });
  });
}

void backward(Stream&, In dy, In keep, Grad dbranch) {
  dispatch<float, double, bf16>(dy.dtype(), "drop_path", [&]<class S>() {
    using T = AccType<S>;
    const S* from = dy.data<S>();
    S* to = dbranch.tensor.data<S>();
    each_sample(dy.dim(0), dy.numel() / dy.dim(0), [&](int64_t sample, int64_t begin, int64_t end) {
      const T k = keep.data<T>()[sample];
      if (!dbranch.accumulate) {
#pragma omp simd
        for (int64_t i = begin; i < end; ++i) to[i] = S(k * T(from[i]));
      } else {
#pragma omp simd
        for (int64_t i = begin; i < end; ++i) to[i] = S(T(to[i]) + k * T(from[i]));
      }
    });
  });
}

const Register r0{kernels::drop_path_fwd, DeviceType::cpu, forward};
const Register r1{kernels::drop_path_bwd, DeviceType::cpu, backward};

}  // namespace
}  // namespace sg
