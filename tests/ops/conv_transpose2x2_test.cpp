#include "ops/conv_transpose2x2/conv_transpose2x2.h"

#include <doctest/doctest.h>

#include "tests/support/naive.h"
#include "tests/support/op_case.h"

using namespace sg;
using namespace sg::test;

namespace {

// y(2i + a, 2j + b, o) = sum over c of x(i, j, c) w(a, b, o, c), plus the bias.
Tensor literal(const Tensor& x, const Tensor& w, const Tensor& b) {
  const int64_t n = x.dim(0), h = x.dim(1), wd = x.dim(2), c = b.dim(0);
  const Tensor pixels = naive::linear(x, w, {});
  std::vector<int64_t> from, channel;
  for (int64_t image = 0; image < n; ++image)
    for (int64_t i = 0; i < 2 * h; ++i)
      for (int64_t j = 0; j < 2 * wd; ++j)
        for (int64_t k = 0; k < c; ++k) {
          const int64_t pixel = (image * h + i / 2) * wd + j / 2;
          from.push_back((pixel * 4 + i % 2 * 2 + j % 2) * c + k);
          channel.push_back(k);
        }
  const Shape shape{n, 2 * h, 2 * wd, c};
  return naive::add(naive::gather(pixels, from, shape), naive::gather(b, channel, shape));
}

}  // namespace

TEST_CASE("conv_transpose2x2: value and gradients against the literal form") {
  struct Sizes {
    int64_t b, h, w, in, out;
  };
  for (const Sizes& s :
       {Sizes{1, 1, 1, 1, 1}, {2, 3, 4, 5, 7}, {1, 14, 14, 16, 8}, {3, 2, 5, 9, 32}}) {
    OpCase test;
    test.name = fmt::format("{}x{}x{} {} to {}", s.b, s.h, s.w, s.in, s.out);
    test.inputs = {test::random({s.b, s.h, s.w, s.in}, 1), test::random({4 * s.out, s.in}, 2),
                   test::random({s.out}, 3)};
    test.op = [](auto& in) -> std::vector<Tensor> {
      return {conv_transpose2x2(in[0], in[1], in[2])};
    };
    test.reference = [](auto& in) -> std::vector<Tensor> { return {literal(in[0], in[1], in[2])}; };
    test.roles = {Role::activation, Role::weight, Role::weight};
    test.terms = std::max(s.in, 4 * s.out * s.b * s.h * s.w);
    test.ops = 2;
    run(test);
  }
}

TEST_CASE("conv_transpose2x2: wrong arguments are named") {
  CHECK_THROWS_WITH_AS(conv_transpose2x2(zeros({1, 2, 2, 3}), zeros({8, 4}), zeros({2})),
                       "conv_transpose2x2: w: expected shape (8, 3), found (8, 4)", Error);
  CHECK_THROWS_WITH_AS(conv_transpose2x2(zeros({2, 2, 3}), zeros({8, 3}), zeros({2})),
                       "conv_transpose2x2: x: expected 4 dimensions, found (2, 2, 3)", Error);
  CHECK_THROWS_AS(conv_transpose2x2(zeros({1, 2, 2, 3}), zeros({8, 3}), zeros({3})), Error);
}
