#include "core/acc_type.h"
#include "core/cpu/parallel.h"
#include "ops/add_pos_embed/add_pos_embed.h"

namespace sg {
namespace {

constexpr int64_t kGrain = 1 << 14;

void forward(Stream&, In x, In table, Out y) {
  dispatch<float, double, bf16>(x.dtype(), "add_pos_embed", [&]<class S>() {
    using T = AccType<S>;
    const int64_t n = table.numel();
    const T* rows = table.data<T>();
    for (int64_t b = 0; b < x.dim(0); ++b) {
      const S* from = x.data<S>() + b * n;
      S* to = y.data<S>() + b * n;
      parallel_for(n, kGrain, [&](int64_t begin, int64_t end) {
#pragma omp simd
        for (int64_t i = begin; i < end; ++i) to[i] = S(T(from[i]) + rows[i]);
      });
    }
  });
}

void backward(Stream&, In dy, Grad dtable) {
  dispatch<float, double, bf16>(dy.dtype(), "add_pos_embed", [&]<class S>() {
    using T = AccType<S>;
    const int64_t n = dtable.tensor.numel();
    parallel_for(n, kGrain / 8, [&](int64_t begin, int64_t end) {
      T* to = dtable.tensor.data<T>();
      if (!dtable.accumulate) std::fill(to + begin, to + end, T(0));
      for (int64_t b = 0; b < dy.dim(0); ++b) {
        const S* from = dy.data<S>() + b * n;
#pragma omp simd
        for (int64_t i = begin; i < end; ++i) to[i] += T(from[i]);
      }
    });
  });
}

const Register r0{kernels::add_pos_embed_fwd, DeviceType::cpu, forward};
const Register r1{kernels::add_pos_embed_bwd, DeviceType::cpu, backward};

}  // namespace
}  // namespace sg
