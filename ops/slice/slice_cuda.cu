// One pass: a thread copies, or adds, one vector of the range.
#include <numeric>

#include "ops/reduce_cuda.cuh"
#include "ops/slice/slice.h"

namespace sg {
namespace {

constexpr int kThreads = 256;

// The range counted in vectors of N elements, which divide all of its sides.
template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    copy_columns_kernel(const T* from, ColumnRange r, cuda::GradPtr<T> to) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= r.rows * r.columns) return;
  const int64_t row = i / r.columns, column = i % r.columns;
  to.put((row * r.to_stride + r.to_begin + column) * N,
         cuda::load_float<N>(from + (row * r.from_stride + r.from_begin + column) * N));
}

void copy_columns(Stream& stream, In from, const ColumnRange& r, Grad to) {
  dispatch<float, bf16>(from.dtype(), "copy_columns", [&]<class T>() {
    int64_t divisor = r.columns;
    for (const int64_t side : {r.from_begin, r.from_stride, r.to_begin, r.to_stride})
      divisor = std::gcd(divisor, side);
    cuda::with_vectors<T>(divisor, [&](auto width) {
      constexpr int N = decltype(width)::value;
      const ColumnRange v{r.rows,         r.columns / N,  r.from_begin / N, r.from_stride / N,
                          r.to_begin / N, r.to_stride / N};
      cuda::launch(
          stream,
          {"copy_columns", unsigned(cuda::ceil_div(v.rows * v.columns, kThreads)), kThreads},
          copy_columns_kernel<T, N>, from.data<T>(), v, cuda::grad_ptr<T>(to));
    });
  });
}
const Register r{kernels::copy_columns, DeviceType::cuda, copy_columns};

}  // namespace
}  // namespace sg
