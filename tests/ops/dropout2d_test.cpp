#include "ops/dropout2d/dropout2d.h"

#include <doctest/doctest.h>

#include <cmath>

#include "tests/support/naive.h"
#include "tests/support/op_case.h"

using namespace sg;
using namespace sg::test;

TEST_CASE("dropout2d: value and gradient against the product with the factors of each pixel") {
  for (const auto& [b, h, w, c] :
       {std::tuple{3, 4, 5, 16}, {2, 7, 3, 19}, {1, 1, 1, 1}, {2, 1, 1, 40}}) {
    Tensor keep = empty({b, c}, Dtype::f32);
    draw_dropout2d(0.4, 1, 2, 3, 0, keep);
    std::vector<int64_t> from;
    for (int64_t i = 0; i < int64_t{b} * h * w * c; ++i)
      from.push_back(i / c / (h * w) * c + i % c);
    OpCase test;
    test.name = fmt::format("{}x{}x{}x{}", b, h, w, c);
    test.inputs = {test::random({b, h, w, c}, 1), keep.to(Dtype::f64)};
    test.roles = {Role::activation, Role::parameter};
    test.wanted = {true, false};
    test.op = [](auto& in) -> std::vector<Tensor> { return {dropout2d(in[0], in[1])}; };
    test.reference = [=](auto& in) -> std::vector<Tensor> {
      return {naive::multiply(in[0], naive::gather(in[1], from, in[0].shape()))};
    };
    run(test);
  }
}

TEST_CASE("draw_dropout2d: mean 1, a draw a channel, the same for any split into ranks") {
  const auto drawn = [](uint64_t seed, uint64_t step, uint32_t layer, int64_t first,
                        int64_t samples, double rate = 0.1) {
    Tensor keep = empty({samples, 256}, Dtype::f64);
    draw_dropout2d(rate, seed, step, layer, first, keep);
    return to_vector<double>(keep);
  };
  const auto all = drawn(1, 2, 0, 0, 64);
  double dropped = 0;
  for (const double k : all) {
    REQUIRE((k == 0 || k == 1 / 0.9));
    dropped += k == 0;
  }
  const double n = double(all.size());
  CHECK(std::abs(dropped / n - 0.1) < 5 * std::sqrt(0.1 * 0.9 / n));
  auto split = drawn(1, 2, 0, 0, 24);
  const auto rest = drawn(1, 2, 0, 24, 40);
  split.insert(split.end(), rest.begin(), rest.end());
  CHECK(split == all);
  for (const auto& other : {drawn(2, 2, 0, 0, 64), drawn(1, 3, 0, 0, 64), drawn(1, 2, 1, 0, 64)})
    CHECK(other != all);
  CHECK(std::vector(all.begin(), all.begin() + 256) !=
        std::vector(all.begin() + 256, all.begin() + 512));
  CHECK(drawn(1, 2, 0, 0, 2, 0) == std::vector<double>(512, 1));
}

TEST_CASE("dropout2d: wrong arguments are named") {
  CHECK_THROWS_WITH_AS(dropout2d(zeros({2, 4, 4, 3}), zeros({2, 4})),
                       "dropout2d: keep: expected shape (2, 3), found (2, 4)", Error);
  CHECK_THROWS_AS(dropout2d(zeros({2, 4, 4, 3}), zeros({2, 3}, Dtype::f64)), Error);
  const Tensor keep = autograd::leaf(zeros({2, 3}));
  CHECK_THROWS_AS(dropout2d(zeros({2, 4, 4, 3}), keep), Error);
  Tensor factors = zeros({2, 3});
  CHECK_THROWS_WITH_AS(draw_dropout2d(1, 1, 2, 3, 0, factors),
                       "dropout2d: rate: expected [0, 1), found 1", Error);
}
