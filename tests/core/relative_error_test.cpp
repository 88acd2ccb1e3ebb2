#include "core/relative_error.h"

#include <doctest/doctest.h>

#include <cmath>

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
  CHECK(error({4, 0, 1, 3}).worst_row == doctest::Approx(1 / std::sqrt(12.5)));
}

TEST_CASE("relative error: one wrong row of many is seen, a whole-tensor norm hides it") {
  const Tensor y = full({10000, 4}, 1, Dtype::f32), x = y.clone();
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
    const Tensor x = one.clone();
    x.data<float>()[4] = bad;
    CHECK(std::isinf(relative_error_of(x, one).whole));
    CHECK(std::isinf(relative_error_of(x, one).worst_row));
  }
}
