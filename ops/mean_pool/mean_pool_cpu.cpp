// Plain loops: a map of the last stage is small.
#include "core/cpu/parallel.h"
#include "ops/mean_pool/mean_pool.h"

namespace sg {
namespace {

void forward(Stream&, In x, Out y) {
  dispatch<float, double>(x.dtype(), "mean_pool", [&]<class T>() {
    const int64_t n = x.dim(1) * x.dim(2), c = x.dim(3);
    parallel_for(x.dim(0), 1, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        T* to = y.data<T>() + b * c;
        std::fill_n(to, c, T(0));
        for (int64_t i = 0; i < n; ++i) {
          const T* from = x.data<T>() + (b * n + i) * c;
#pragma omp simd
          for (int64_t k = 0; k < c; ++k) to[k] += from[k];
        }
        for (int64_t k = 0; k < c; ++k) to[k] /= T(n);
      }
    });
  });
}

void backward(Stream&, In dy, Grad dx) {
  dispatch<float, double>(dy.dtype(), "mean_pool", [&]<class T>() {
    const int64_t n = dx.tensor.dim(1) * dx.tensor.dim(2), c = dy.dim(1);
    parallel_for(dy.dim(0) * n, 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const T* from = dy.data<T>() + i / n * c;
        T* to = dx.tensor.data<T>() + i * c;
        for (int64_t k = 0; k < c; ++k) {
          const T v = from[k] / T(n);
          to[k] = dx.accumulate ? to[k] + v : v;
        }
      }
    });
  });
}

const Register r0{kernels::mean_pool_fwd, DeviceType::cpu, forward};
const Register r1{kernels::mean_pool_bwd, DeviceType::cpu, backward};

}  // namespace
}  // namespace sg
