// Plain loops: a map of the last stage is small.
#include "core/cpu/add_into.h"
#include "core/cpu/parallel.h"
#include "core/cpu/scratch.h"
#include "ops/mean_pool/mean_pool.h"

namespace sg {
namespace {

void forward(Stream&, In x, Out y) {
  dispatch<float, double, bf16>(x.dtype(), "mean_pool", [&]<class S>() {
    using T = AccType<S>;
    const int64_t n = x.dim(1) * x.dim(2), c = x.dim(3);
    RowSums<S> sums(c);
    parallel_for(x.dim(0), 1, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        S* const row = y.data<S>() + b * c;
        T* const to = sums.at(row);
        std::fill_n(to, c, T(0));
        for (int64_t i = 0; i < n; ++i) add_into(x.data<S>() + (b * n + i) * c, to, c);
        for (int64_t k = 0; k < c; ++k) to[k] /= T(n);
        sums.store(row, c);
      }
    });
  });
}

void backward(Stream&, In dy, Grad dx) {
  dispatch<float, double, bf16>(dy.dtype(), "mean_pool", [&]<class S>() {
    using T = AccType<S>;
    const int64_t n = dx.tensor.dim(1) * dx.tensor.dim(2), c = dy.dim(1);
    parallel_for(dy.dim(0) * n, 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const S* from = dy.data<S>() + i / n * c;
        S* to = dx.tensor.data<S>() + i * c;
        for (int64_t k = 0; k < c; ++k) {
          const T v = T(from[k]) / T(n);
          to[k] = S(dx.accumulate ? T(to[k]) + v : v);
        }
      }
    });
  });
}

const Register r0{kernels::mean_pool_fwd, DeviceType::cpu, forward};
const Register r1{kernels::mean_pool_bwd, DeviceType::cpu, backward};

}  // namespace
}  // namespace sg
