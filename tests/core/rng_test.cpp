#include "core/rng.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

using namespace sg;

TEST_CASE("streams are functions of their keys alone, and differ") {
  Random a(1, Purpose::crop, 2, 3), same(1, Purpose::crop, 2, 3);
  Random seed(2, Purpose::crop, 2, 3), purpose(1, Purpose::flip, 2, 3),
      epoch(1, Purpose::crop, 3, 3), sample(1, Purpose::crop, 2, 4);
  const uint32_t first = a.u32();
  CHECK(same.u32() == first);
  for (Random* other : {&seed, &purpose, &epoch, &sample}) CHECK(other->u32() != first);
}

TEST_CASE("a stream's words at any position are those that are drawn one after the other") {
  Random drawn(1, Purpose::crop, uint64_t{5} << 40, 3);
  const RandomStream stream = drawn.stream();
  for (uint32_t i = 0; i < 5; ++i)
    for (const uint32_t word : random_words(stream, i)) CHECK(drawn.u32() == word);
}

TEST_CASE("moments of the uniform, integer and normal draws") {
  Random r(7, Purpose::test);
  const int n = 200000;
  double mean = 0, square = 0, uniform = 0;
  std::vector<int> counts(7);
  for (int i = 0; i < n; ++i) {
    const double z = r.normal();
    mean += z, square += z * z, uniform += r.uniform();
    ++counts[size_t(r.integer(-3, 3) + 3)];
  }
  // Five standard errors each.
  CHECK(std::abs(mean / n) < 5 / std::sqrt(n));
  CHECK(std::abs(square / n - 1) < 5 * std::sqrt(2.0 / n));
  CHECK(std::abs(uniform / n - 0.5) < 5 / std::sqrt(12.0 * n));
  for (int c : counts) CHECK(std::abs(c - n / 7.0) < 5 * std::sqrt(n / 7.0));
}
