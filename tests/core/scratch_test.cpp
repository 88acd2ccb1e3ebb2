#include "core/cpu/scratch.h"

#include <doctest/doctest.h>

#include <vector>

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
