#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/cpu/column_sums.cpp"
#include <hwy/foreach_target.h>

#include <algorithm>

#include "core/cpu/add_into.h"
#include "core/cpu/column_sums.h"
#include "core/cpu/parallel.h"
#include "core/cpu/simd-inl.h"
#include "core/cpu/simd_register.h"
#include "core/tensor.h"

HWY_BEFORE_NAMESPACE();
namespace sg::HWY_NAMESPACE {
namespace {

template <class S>
void sums(int64_t rows, int64_t n, const S* a, AccType<S>* sum, bool accumulate) {
  using T = AccType<S>;
  constexpr int64_t kGrain = 64;  // rows
  const int chunks = chunks_of(rows, kGrain);
  // Each thread keeps its own between calls: this may run inside a parallel loop, which must not
  // allocate (core/cpu/scratch.h).
  thread_local Tensor scratch;
  if (!scratch || scratch.numel() < chunks * n) scratch = empty({chunks * n}, dtype_of<T>());
  T* const partial = scratch.data<T>();
  std::fill_n(partial, chunks * n, T(0));
  parallel_chunks(rows, kGrain, [&](int chunk, int64_t begin, int64_t end) HWY_ATTR {
    T* const to = partial + chunk * n;
    int64_t r = begin;
    for (; r + 4 <= end; r += 4) {  // four rows for one load and store of the sums
      const S* const from = a + r * n;
      for_lanes<T>(n, [&](auto d, int64_t i) HWY_ATTR {
        const auto v01 = hn::Add(load(d, from + i), load(d, from + n + i));
        const auto v23 = hn::Add(load(d, from + 2 * n + i), load(d, from + 3 * n + i));
        hn::StoreU(hn::Add(hn::LoadU(d, to + i), hn::Add(v01, v23)), d, to + i);
      });
    }
    for (; r < end; ++r)
      for_lanes<T>(n, [&](auto d, int64_t i) HWY_ATTR {
        hn::StoreU(hn::Add(hn::LoadU(d, to + i), load(d, a + r * n + i)), d, to + i);
      });
  });
  if (!accumulate) std::fill_n(sum, n, T(0));
  for (int c = 0; c < chunks; ++c) add_into(partial + c * n, sum, n);
}

void sums_f32(int64_t rows, int64_t n, const float* a, float* sum, bool accumulate) {
  sums(rows, n, a, sum, accumulate);
}
void sums_bf16(int64_t rows, int64_t n, const bf16* a, float* sum, bool accumulate) {
  sums(rows, n, a, sum, accumulate);
}
void sums_f64(int64_t rows, int64_t n, const double* a, double* sum, bool accumulate) {
  sums(rows, n, a, sum, accumulate);
}

}  // namespace
}  // namespace sg::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sg {
namespace {
HWY_EXPORT(sums_f32);
HWY_EXPORT(sums_bf16);
HWY_EXPORT(sums_f64);
}  // namespace

template <>
void column_sums(int64_t rows, int64_t n, const float* a, float* sum, bool accumulate) {
  HWY_DYNAMIC_DISPATCH(sums_f32)(rows, n, a, sum, accumulate);
}
template <>
void column_sums(int64_t rows, int64_t n, const bf16* a, float* sum, bool accumulate) {
  HWY_DYNAMIC_DISPATCH(sums_bf16)(rows, n, a, sum, accumulate);
}
template <>
void column_sums(int64_t rows, int64_t n, const double* a, double* sum, bool accumulate) {
  HWY_DYNAMIC_DISPATCH(sums_f64)(rows, n, a, sum, accumulate);
}

}  // namespace sg
#endif
