#include "ops/relu/relu.h"

#include <doctest/doctest.h>

#include <cmath>

#include "tests/support/naive.h"
#include "tests/support/op_case.h"

using namespace sg;
using namespace sg::test;

TEST_CASE("relu: value and gradient") {
  for (const Shape& shape : {Shape{1}, {3, 7}, {2, 5, 9, 16}, {40, 33, 31}}) {
    OpCase test;
    test.name = shape.str();
    // Away from the kink, which finite differences would cross.
    const auto away = [](double v) { return v < 0 ? v - 0.1 : v + 0.1; };
    test.inputs = {naive::map(test::random(shape, 1), away, away)};
    test.op = [](auto& in) -> std::vector<Tensor> { return {relu(in[0])}; };
    test.reference = [](auto& in) -> std::vector<Tensor> {
      return {naive::map(
          in[0], [](double v) { return std::max(v, 0.0); },
          [](double v) { return double(v > 0); })};
    };
    run(test);
  }
}

TEST_CASE("relu: zero has no gradient, what is not a number stays so") {
  for (const Device device : devices()) {
    const Tensor x =
        autograd::leaf(from_vector(std::vector<float>{0, -0.0f, NAN, 2, -3}, {5}).to(device));
    const Tensor y = relu(x);
    const auto found = to_vector<float>(y);
    CHECK(found[0] == 0);
    CHECK(std::isnan(found[2]));
    CHECK(found[4] == 0);
    autograd::backward({y}, {full({5}, 1, Dtype::f32, device)});
    CHECK(to_vector<float>(autograd::grad_of(x)) == std::vector<float>{0, 0, 0, 1, 0});
  }
  CHECK(relu(zeros({0, 3})).numel() == 0);
}
