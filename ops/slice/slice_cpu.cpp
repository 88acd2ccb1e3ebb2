#include <algorithm>

#include "core/cpu/parallel.h"
#include "ops/slice/slice.h"

namespace sg {
namespace {

void copy_columns(Stream&, In from, const ColumnRange& r, Grad to) {
  constexpr int64_t kGrain = 1 << 14;
  dispatch<float, double, bf16>(from.dtype(), "copy_columns", [&]<class T>() {
    parallel_for(r.rows * r.columns, kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t n; begin < end; begin += n) {
        const int64_t row = begin / r.columns, column = begin % r.columns;
        n = std::min(r.columns - column, end - begin);
        const T* const x = from.data<T>() + row * r.from_stride + r.from_begin + column;
        T* const y = to.tensor.data<T>() + row * r.to_stride + r.to_begin + column;
        if (!to.accumulate)
          std::copy(x, x + n, y);
        else if constexpr (std::is_same_v<T, bf16>)
          for (int64_t i = 0; i < n; ++i) y[i] = bf16(float(y[i]) + float(x[i]));
        else
          for (int64_t i = 0; i < n; ++i) y[i] += x[i];
      }
    });
  });
}
const Register r{kernels::copy_columns, DeviceType::cpu, copy_columns};

}  // namespace
}  // namespace sg
