#include "tools/golden/relative_error.h"

#include <doctest/doctest.h>

#include <cmath>
#include <span>

#include "core/rng.h"
#include "ops/linear/linear.h"

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

TEST_CASE("relative error: rows that come out of products may be off more than independent ones") {
  CHECK(worst_row_factor(1, 5, 2) == 1);
  // Errors, activations and what a norm divides by, each out of two matrices of independent
  // weights.
  Random random(2, Purpose::test);
  constexpr int64_t kRows = 98, kLength = 128;
  constexpr int kProducts = 2;
  const auto uniform = [&](int64_t rows, double limit) {
    Tensor t = empty({rows, kLength}, Dtype::f64);
    for (double& v : t.span<double>()) v = random.uniform(-limit, limit);
    return t;
  };
  const auto norm = [](std::span<const double> row) {
    double sum = 0;
    for (const double v : row) sum += v * v;
    return std::sqrt(sum);
  };
  for (int i = 0; i < 10; ++i) {
    CAPTURE(i);
    Tensor t[3];
    for (Tensor& out : t) {
      out = uniform(kRows, 1);
      for (int k = 0; k < kProducts; ++k)
        out = linear(out, uniform(kLength, std::sqrt(3.0 / kLength)), {});
    }
    const Tensor y = full({kRows, kLength}, 1, Dtype::f64);
    Tensor x = y.clone();
    for (int64_t r = 0; r < kRows; ++r) {
      const auto row = [&](const Tensor& of) {
        return std::span(of.data<double>() + r * kLength, size_t(kLength));
      };
      for (int64_t j = 0; j < kLength; ++j)
        x.data<double>()[r * kLength + j] +=
            1e-3 * row(t[0])[size_t(j)] * norm(row(t[1])) / norm(row(t[2]));
    }
    const RelativeError e = relative_error_of(x, y, 0, kProducts);
    CHECK(e.worst_row / e.whole > 0.7 * e.row_factor);
    CHECK(e.within(e.whole));
    CHECK_FALSE(relative_error_of(x, y).within(e.whole));
    // A row that is off by little more than the bound allows.
    for (int64_t j = 0; j < kLength; ++j) x.data<double>()[j] = 1 + 1.1 * e.whole * e.row_factor;
    CHECK_FALSE(relative_error_of(x, y, 0, kProducts).within(1.02 * e.whole));
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
