#include <algorithm>

#include "core/cpu/add_into.h"
#include "core/cpu/parallel.h"
#include "ops/slice/slice.h"

namespace sg {
namespace {

void copy_columns(Stream&, In from, const ColumnRange& r, Grad to) {
  constexpr int64_t kGrain = 1 << 14;
  dispatch<float, double, bf16>(from.dtype(), "copy_columns", [&]<class S>() {
    parallel_for(r.rows * r.columns, kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t n; begin < end; begin += n) {
        const int64_t row = begin / r.columns, column = begin % r.columns;
        n = std::min(r.columns - column, end - begin);
        const S* const x = from.data<S>() + row * r.from_stride + r.from_begin + column;
        S* const y = to.tensor.data<S>() + row * r.to_stride + r.to_begin + column;
        if (!to.accumulate)
          std::copy(x, x + n, y);
        else
          add_into(x, y, n);
      }
    });
  });
}
const Register r{kernels::copy_columns, DeviceType::cpu, copy_columns};

}  // namespace
}  // namespace sg
