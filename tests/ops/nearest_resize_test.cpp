#include "ops/nearest_resize/nearest_resize.h"

#include <doctest/doctest.h>

#include <cmath>

#include "ops/nearest_resize/axis.h"
#include "tests/support/naive.h"
#include "tests/support/op_case.h"

using namespace sg;
using namespace sg::test;

namespace {

Tensor literal(const Tensor& x, int64_t height, int64_t width) {
  const int64_t b = x.dim(0), h = x.dim(1), w = x.dim(2), c = x.dim(3);
  std::vector<int64_t> from;
  for (int64_t n = 0; n < b; ++n)
    for (int64_t i = 0; i < height; ++i)
      for (int64_t j = 0; j < width; ++j)
        for (int64_t k = 0; k < c; ++k)
          from.push_back(((n * h + i * h / height) * w + j * w / width) * c + k);
  return naive::gather(x, from, {b, height, width, c});
}

}  // namespace

TEST_CASE("nearest_resize: value and gradient against the literal formula, with a base too") {
  for (const auto& [b, h, w, c, height, width] : {std::tuple{2, 4, 5, 16, 8, 10},
                                                  {1, 3, 2, 8, 12, 8},
                                                  {2, 7, 5, 19, 13, 11},
                                                  {1, 23, 31, 3, 7, 12},
                                                  {2, 1, 1, 5, 4, 6},
                                                  {1, 5, 7, 33, 1, 1},
                                                  {1, 6, 6, 70, 6, 12},
                                                  {1, 2, 3, 1, 3, 4}})
    for (const bool base : {false, true}) {
      OpCase test;
      test.name = fmt::format("{}x{}x{}x{} to {}x{}, base {}", b, h, w, c, height, width, base);
      test.inputs = {test::random({b, h, w, c}, 1)};
      if (base) test.inputs.push_back(test::random({b, height, width, c}, 2));
      test.op = [=](auto& in) -> std::vector<Tensor> {
        return {nearest_resize(in[0], height, width, base ? in[1] : Tensor())};
      };
      test.reference = [=](auto& in) -> std::vector<Tensor> {
        const Tensor y = literal(in[0], height, width);
        return {base ? naive::add(y, in[1]) : y};
      };
      test.terms = std::max(1, (height / h + 1) * (width / w + 1));
      run(test);
    }
}

TEST_CASE("nearest_resize: the same size is the same tensor, or a plain sum") {
  const Tensor x = autograd::leaf(test::random({1, 5, 6, 4}, 1));
  CHECK(nearest_resize(x, 5, 6).meta() == x.meta());
  const Tensor base = autograd::leaf(test::random({1, 5, 6, 4}, 2));
  CHECK(relative_error(nearest_resize(x, 5, 6, base), naive::add(x, base)) < 1e-15);
}

TEST_CASE("nearest_resize: only what is read counts, and positions are those of float32") {
  // What a result does not read is not multiplied by zero.
  Tensor x = zeros({1, 2, 1, 1});
  x.data<float>()[1] = INFINITY;
  CHECK(to_vector<float>(nearest_resize(x, 4, 1)) == std::vector<float>{0, 0, INFINITY, INFINITY});
  // As torch computes them; and the output positions of an input position are found again.
  for (const auto& [n, m] : {std::pair{49, 98}, {3, 7}, {100, 331}, {512, 2048}, {683, 1024}}) {
    const NearestAxis axis(n, m);
    for (int64_t i = 0; i < m; ++i)
      REQUIRE(axis.at(i) ==
              std::min<int64_t>(int64_t(std::floor(float(i) * (float(n) / float(m)))), n - 1));
    for (int64_t r = 0; r < n; ++r)
      for (int64_t i = axis.first(r); i < axis.first(r + 1); ++i) REQUIRE(axis.at(i) == r);
    CHECK(axis.first(0) == 0);
    CHECK(axis.first(n) == m);
  }
}

TEST_CASE("nearest_resize: wrong arguments are named") {
  CHECK_THROWS_WITH_AS(nearest_resize(zeros({4, 4, 1}), 8, 8),
                       "nearest_resize: x: expected 4 dimensions, found (4, 4, 1)", Error);
  CHECK_THROWS_WITH_AS(nearest_resize(zeros({1, 4, 4, 1}), 8, 0),
                       "nearest_resize: expected sides of 1 to 1048576, found 8 x 0", Error);
  CHECK_THROWS_WITH_AS(nearest_resize(zeros({1, 4, 4, 2}), 8, 8, zeros({1, 8, 9, 2})),
                       "nearest_resize: base: expected shape (1, 8, 8, 2), found (1, 8, 9, 2)",
                       Error);
}
