#include "autograd/gradcheck.h"

#include <doctest/doctest.h>

#include "autograd/tape.h"
#include "tests/support/naive.h"
#include "tests/support/op_case.h"

using namespace sg;

namespace {

// x^2 with a gradient that is off by `error` in its last element.
Tensor square(const Tensor& x, double error) {
  Tensor y = test::naive::multiply(x.detach(), x.detach());
  autograd::record("square", {&y}, {x}, [=](autograd::Backward& g) {
    Tensor dx = g.fresh_grad(0);
    for (int64_t i = 0; i < x.numel(); ++i)
      dx.data<double>()[i] = 2 * x.data<double>()[i] * g.dy().data<double>()[i];
    dx.data<double>()[x.numel() - 1] *= 1 + error;
  });
  return y;
}

double error_of(double error) {
  return autograd::gradcheck(
             [=](auto& in) -> std::vector<Tensor> { return {square(in[0], error)}; },
             {test::random({5}, 1, 0.5, 1)})
      .error;
}

}  // namespace

TEST_CASE("gradcheck passes a right gradient and catches one wrong element") {
  CHECK(error_of(0) < 1e-10);
  CHECK(error_of(1e-4) > 1e-6);
}
