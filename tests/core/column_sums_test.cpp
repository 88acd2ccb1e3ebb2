#include "core/cpu/column_sums.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "core/cpu/parallel.h"
#include "core/rng.h"
#include "core/tensor.h"

using namespace sg;

namespace {

// Sums of S are right to the rounding of AccType<S>, whatever the rounding of S, and have the same
// bits for any number of threads.
template <class S>
void check_sums(int64_t rows, int64_t n, bool accumulate) {
  using T = AccType<S>;
  CAPTURE(name_of(dtype_of<S>()));
  CAPTURE(rows);
  CAPTURE(n);
  Random random(7, Purpose::test, uint64_t(rows), uint64_t(n));
  std::vector<S> a;
  for (int64_t i = 0; i < rows * n; ++i) a.push_back(S(T(random.uniform(-1, 1))));
  const std::vector<T> begin(size_t(n), T(0.25));
  std::vector<T> sum = begin;
  column_sums(rows, n, a.data(), sum.data(), accumulate);
  for (int64_t j = 0; j < n; ++j) {
    double expected = accumulate ? 0.25 : 0, scale = 1;
    for (int64_t i = 0; i < rows; ++i) {
      expected += double(T(a[size_t(i * n + j)]));
      scale += std::abs(double(T(a[size_t(i * n + j)])));
    }
    // At most rows roundings of sums no larger than `scale`.
    const double eps = sizeof(T) == 4 ? 0x1p-24 : 0x1p-53;
    CHECK(std::abs(double(sum[size_t(j)]) - expected) <= double(rows + 1) * eps * scale);
  }
  const int threads = num_threads();
  set_num_threads(threads == 3 ? 1 : 3);
  std::vector<T> again = begin;
  column_sums(rows, n, a.data(), again.data(), accumulate);
  set_num_threads(threads);
  CHECK(std::memcmp(sum.data(), again.data(), sum.size() * sizeof(T)) == 0);
}

}  // namespace

TEST_CASE("column sums: f32, f64 and bf16, of few and many rows, whole vectors and a rest") {
  for (const auto& [rows, n] : {std::pair<int64_t, int64_t>{0, 5}, {3, 1}, {64, 16}, {1030, 37}})
    for (const bool accumulate : {false, true}) {
      check_sums<float>(rows, n, accumulate);
      check_sums<double>(rows, n, accumulate);
      check_sums<bf16>(rows, n, accumulate);
    }
}
