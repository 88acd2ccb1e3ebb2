#include "core/cpu/scratch.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

#include "core/allocator.h"

using namespace sg;

namespace {

// Adds 1000 times `step` to `row` by way of RowSums.
template <class S>
std::vector<double> summed(std::vector<S> row, double step, bool accumulate) {
  using T = AccType<S>;
  const auto n = int64_t(row.size());
  RowSums<S> sums(n + 3);
  T* const to = sums.at(row.data());
  if (accumulate)
    sums.load(row.data(), n);
  else
    std::fill_n(to, n, T(0));
  for (int k = 0; k < 1000; ++k)
    for (int64_t i = 0; i < n; ++i) to[i] += T(step);
  sums.store(row.data(), n);
  std::vector<double> values;
  for (const S v : row) values.push_back(double(T(v)));
  return values;
}

}  // namespace

TEST_CASE("row sums: a sum of bf16 is kept in float until it is stored") {
  // In bf16 itself the sum would stop at 256, where adding 1 changes nothing.
  const std::vector<bf16> row{bf16(4.0f), bf16(-8.0f)};
  CHECK(summed(row, 1, false) == std::vector<double>{1000, 1000});
  CHECK(summed(row, 1, true) == std::vector<double>{1004, 992});
}

TEST_CASE("row sums: of f32 and f64 they are made where they are stored") {
  float row[2] = {};
  CHECK(RowSums<float>(2).at(row) == row);
  CHECK(summed<float>({4, -8}, 1, true) == std::vector<double>{1004, 992});
  CHECK(summed<double>({4, -8}, 0.5, true) == std::vector<double>{504, 492});
}

TEST_CASE(
    "scratch memory: each thread has whole cache lines, and no more threads than indices do") {
  const int threads = num_threads();
  set_num_threads(4);
  Allocator& allocator = Allocator::of({});
  const size_t before = allocator.stats().in_use;
  Scratch<float> all(3), two(1 << 20, 2);
  CHECK(allocator.stats().in_use - before < size_t(3) << 22);  // of `two` not 16 MiB but 8
  uintptr_t begin[4] = {};
  parallel_for(4, 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) begin[i] = uintptr_t(all.mine());
  });
  set_num_threads(threads);
  for (int i = 0; i < 4; ++i) {
    CHECK(begin[i] % 64 == 0);
    CHECK(begin[i] == begin[0] + uintptr_t(i) * 64);
  }
}
