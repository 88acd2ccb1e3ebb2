#include "ops/adaptive_avg_pool/adaptive_avg_pool.h"

#include <doctest/doctest.h>

#include <cmath>

#include "tests/support/naive.h"
#include "tests/support/op_case.h"

using namespace sg;
using namespace sg::test;

namespace {

// A sum over all pixels, each weighing 1 / (pixels of the bin) or nothing.
Tensor literal(const Tensor& x, int64_t side) {
  const int64_t b = x.dim(0), h = x.dim(1), w = x.dim(2), c = x.dim(3);
  const auto covers = [side](int64_t bin, int64_t r, int64_t length) {
    return r >= std::floor(double(bin) * double(length) / double(side)) &&
           r < std::ceil(double(bin + 1) * double(length) / double(side));
  };
  std::vector<int64_t> from;
  std::vector<double> weights;
  for (int64_t n = 0; n < b; ++n)
    for (int64_t i = 0; i < side; ++i)
      for (int64_t j = 0; j < side; ++j)
        for (int64_t k = 0; k < c; ++k) {
          int64_t pixels = 0;
          for (int64_t p = 0; p < h * w; ++p) {
            const bool inside = covers(i, p / w, h) && covers(j, p % w, w);
            pixels += inside;
            from.push_back((n * h * w + p) * c + k);
            weights.push_back(inside);
          }
          for (auto weight = weights.end() - h * w; weight < weights.end(); ++weight)
            *weight /= double(pixels);
        }
  const Shape products{b, side, side, c, h * w};
  return naive::sum_last(
      naive::multiply(naive::gather(x, from, products), from_vector(weights, products)));
}

}  // namespace

TEST_CASE("adaptive_avg_pool: value and gradient against the literal formula") {
  for (const auto& [b, h, w, c, side] : {std::tuple{1, 16, 12, 16, 1},
                                         {2, 8, 6, 19, 2},
                                         {1, 7, 5, 8, 3},
                                         {1, 2, 3, 130, 6},  // bins overlap
                                         {2, 1, 1, 5, 6},
                                         {1, 11, 13, 3, 6},
                                         {1, 5, 5, 4, 5},
                                         {1, 4, 1, 1, 2}}) {
    OpCase test;
    test.name = fmt::format("{}x{}x{}x{} to {}", b, h, w, c, side);
    test.inputs = {test::random({b, h, w, c}, 1)};
    test.op = [side = side](auto& in) -> std::vector<Tensor> {
      return {adaptive_avg_pool(in[0], side)};
    };
    test.reference = [side = side](auto& in) -> std::vector<Tensor> {
      return {literal(in[0], side)};
    };
    test.terms = std::max((h / side + 2) * (w / side + 2), (side / h + 2) * (side / w + 2));
    run(test);
  }
}

TEST_CASE("adaptive_avg_pool: wrong arguments are named") {
  CHECK_THROWS_WITH_AS(adaptive_avg_pool(zeros({4, 4, 1}), 2),
                       "adaptive_avg_pool: x: expected 4 dimensions, found (4, 4, 1)", Error);
  CHECK_THROWS_WITH_AS(adaptive_avg_pool(zeros({1, 4, 0, 1}), 2),
                       "adaptive_avg_pool: x: the map (1, 4, 0, 1) has no pixels", Error);
  CHECK_THROWS_WITH_AS(adaptive_avg_pool(zeros({1, 4, 4, 1}), 0),
                       "adaptive_avg_pool: side: expected at least 1, found 0", Error);
}
