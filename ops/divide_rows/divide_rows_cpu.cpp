#include "core/cpu/parallel.h"
#include "ops/divide_rows/divide_rows.h"

namespace sg {
namespace {

void divide(Stream&, Out x, In divisors) {
  dispatch<float, double>(x.dtype(), "divide_rows", [&]<class T>() {
    const int64_t c = x.dim(1);
    parallel_for(x.dim(0), 256, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        T* const row = x.data<T>() + i * c;
        const T divisor = divisors.data<T>()[i];
#pragma omp simd
        for (int64_t k = 0; k < c; ++k) row[k] /= divisor;
      }
    });
  });
}

const Register r{kernels::divide_rows, DeviceType::cpu, divide};

}  // namespace
}  // namespace sg
