#include "tools/golden/relative_error.h"

#include <doctest/doctest.h>

#include <cmath>

#include "core/rng.h"

using namespace sg;

TEST_CASE("relative error: of the whole, and of the worst row against its scale") {
  // Norms 4 and 3; their root mean square is sqrt(12.5).
  const Tensor y = from_vector<double>({4, 0, 0, 3}, {2, 2});
  const auto error = [&](std::vector<double> x) {
    return relative_error_of(from_vector(x, {2, 2}), y);
  };
  CHECK(error({4, 0, 0, 3}).whole == 0);
  CHECK(error({4, 0, 0, 3}).worst_row == 0);
  CHECK(error({4, 1, 0, 3}).whole == doctest::Approx(1.0 / 5));
  CHECK(error({4, 1, 0, 3}).worst_row == doctest::Approx(1.0 / 4));
  CHECK(relative_error_of(zeros({2, 2}), y, 10).whole == doctest::Approx(0.5));
  CHECK(relative_error_of(zeros({2, 2}), y, 4).whole == 1);
  CHECK(error({4, 0, 1, 3}).worst_row == doctest::Approx(1 / std::sqrt(12.5)));
}

TEST_CASE("relative error: one wrong row of many is seen, a whole-tensor norm hides it") {
  Tensor y = full({10000, 4}, 1, Dtype::f32), x = y.clone();
  for (int i = 0; i < 4; ++i) x.data<float>()[4 * 5000 + i] = -1;
  CHECK(relative_error_of(x, y).whole == doctest::Approx(0.02));
  CHECK(relative_error_of(x, y).worst_row == doctest::Approx(2));
}

TEST_CASE("relative error: zeros, nothing, other shapes, what is not finite") {
  const Tensor zero = zeros({2, 3}), one = full({2, 3}, 1, Dtype::f32);
  CHECK(relative_error_of(zero, zero).worst_row == 0);
  CHECK(relative_error_of(one, zero).whole == doctest::Approx(std::sqrt(6)));
  CHECK(relative_error_of(zeros({0, 3}), zeros({0, 3})).whole == 0);
  CHECK(std::isinf(relative_error_of(one, one.view({3, 2})).whole));
  for (const float bad : {NAN, INFINITY}) {
    Tensor x = one.clone();
    x.data<float>()[4] = bad;
    CHECK(std::isinf(relative_error_of(x, one).whole));
    CHECK(std::isinf(relative_error_of(x, one).worst_row));
  }
}

TEST_CASE("relative error: the worst of many short rows may be off more than the whole") {
  CHECK(worst_row_factor(1, 5) == 1);
  // Independent errors: close to the factor, and not above it by more than a little.
  Random random(1, Purpose::test);
  for (const auto& [rows, length] : {std::pair{10000, 1}, {1000, 8}, {100, 100}}) {
    Tensor y = full({rows, length}, 1, Dtype::f64), x = y.clone();
    for (double& v : x.span<double>()) v += 1e-3 * random.normal();
    const RelativeError e = relative_error_of(x, y);
    CHECK(e.whole == doctest::Approx(1e-3).epsilon(0.05));
    CHECK(e.worst_row / e.whole > 0.7 * e.row_factor);
    CHECK(e.worst_row / e.whole < 1.1 * e.row_factor);
    CHECK(e.within(1.1 * e.whole));
    CHECK_FALSE(e.within(0.9 * e.whole));
  }
}
