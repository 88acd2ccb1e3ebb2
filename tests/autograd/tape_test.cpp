#include "autograd/tape.h"

#include <doctest/doctest.h>

#include "autograd/recompute.h"
#include "ops/layer_norm/layer_norm.h"
#include "tests/support/naive.h"
#include "tests/support/op_case.h"

using namespace sg;
using namespace sg::autograd;

namespace {
Tensor scalar(double v) { return full({1}, v, Dtype::f64); }
}  // namespace

TEST_CASE("gradients of a diamond add up") {
  const Tensor x = leaf(scalar(3));
  const Tensor a = test::naive::multiply(x, x),
               y = test::naive::add(a, test::naive::multiply(a, x));
  backward(y);  // x^2 + x^3
  CHECK(grad_of(x).item() == doctest::Approx(2 * 3 + 3 * 9));
}

TEST_CASE("a leaf's buffer is overwritten first, then added to, and cleared on request") {
  const Tensor buffer = full({1}, 99, Dtype::f64), x = leaf(scalar(2), buffer);
  const auto step = [&] { backward(test::naive::multiply(x, x)); };
  step();
  CHECK(buffer.item() == 4);
  step();
  CHECK(buffer.item() == 8);
  clear_grad(x);
  CHECK(!grad_of(x).defined());
  step();
  CHECK(buffer.item() == 4);
}

TEST_CASE("a gradient that is passed on is not written through another name") {
  const Tensor x = leaf(scalar(2)), y = leaf(scalar(5));
  const Tensor s = test::naive::add(x, y);  // both get the same dy tensor
  backward(test::naive::add(s, test::naive::multiply(x, x)));
  CHECK(grad_of(x).item() == 5);
  CHECK(grad_of(y).item() == 1);

  const Tensor a = leaf(scalar(1)), b = leaf(scalar(1));
  for (int i = 0; i < 2; ++i) backward(test::naive::add(a, b));  // both get the same dy tensor
  CHECK(grad_of(a).item() == 2);
  CHECK(grad_of(b).item() == 2);
}

// To hand a gradient to a kernel costs no count of references.
static_assert(std::is_trivially_copyable_v<Grad>);

TEST_CASE("a tensor that is two inputs of one operation gets both gradients") {
  const Tensor x = leaf(scalar(5));
  const Tensor square = test::naive::multiply(x, x);
  Tensor y = square.detach().clone();
  record("twice", {&y}, {square, square}, [](Backward& g) {
    const Grad first = g.grad(0), second = g.grad(1);
    for (const auto& [to, value] : {std::pair(first, 2.0), std::pair(second, 3.0)}) {
      double& sum = *to.tensor.data<double>();
      sum = (to.accumulate ? sum : 0) + value;
    }
  });
  backward(y);
  CHECK(grad_of(x).item() == (2 + 3) * 2 * 5);
}

TEST_CASE("column sums come with a gradient that one operation alone makes") {
  for (const int users : {1, 2}) {
    const Tensor x = leaf(scalar(2));
    Tensor y = x.detach().clone(), sums;
    record("producer", {&y}, {x}, [&](Backward& g) {
      sums = g.dy_column_sums();
      g.forward_grad(0, g.dy());
    });
    ask_for_column_sums(y);
    std::vector<Tensor> z;
    for (int i = 0; i < users; ++i) {
      z.push_back(y.detach().clone());
      record("user", {&z.back()}, {y}, [](Backward& g) {
        if (Tensor to = g.column_sums(0)) to.copy_(g.dy());
        g.forward_grad(0, g.dy());
      });
    }
    backward(z, std::vector<Tensor>(z.size(), scalar(3)));
    CHECK(grad_of(x).item() == 3 * users);
    CHECK(sums.defined() == (users == 1));
    if (sums) CHECK(sums.item() == 3);
  }
}

TEST_CASE("NoGrad records nothing; a second backward is an error") {
  const Tensor x = leaf(scalar(2));
  {
    const NoGrad no_grad;
    CHECK(!requires_grad(test::naive::multiply(x, x)));
  }
  const Tensor y = test::naive::multiply(x, x);
  backward(y);
  CHECK_THROWS_AS(backward(y), Error);
  CHECK_THROWS_AS(backward(scalar(1)), Error);
  CHECK_THROWS_AS(refuse_grad("rank", {x}), Error);
}

TEST_CASE("recompute gives the same bits, for inputs and parameters, and keeps less") {
  const Tensor w0 = test::random({16}, 1, 0.5, 1.5), b0 = test::random({16}, 2);
  const auto grads = [&](bool checkpoint) {
    const Tensor x = leaf(test::random({8, 16}, 3)), w = leaf(w0), b = leaf(b0);
    const Segment f = [&](const std::vector<Tensor>& in) -> std::vector<Tensor> {
      const Tensor y = layer_norm(layer_norm(in[0], w, b, 1e-6f), w, b, 1e-6f, Activation::gelu);
      return {y, y.detach()};
    };
    const auto y = checkpoint ? recompute(f, {x}) : f({x});
    CHECK(!requires_grad(y[1]));
    backward({y[0]}, {test::random({8, 16}, 4)});
    return std::vector{to_vector<double>(grad_of(x)), to_vector<double>(grad_of(w)),
                       to_vector<double>(grad_of(b))};
  };
  CHECK(grads(true) == grads(false));
}

TEST_CASE("views, copies and changes of a tensor on the tape throw; detach() allows them") {
  const Tensor x = leaf(full({2, 3}, 1));
  Tensor other = full({2, 3}, 2);
  Tensor y = empty_like(x);
  record("copy", {&y}, {x}, [](Backward& g) { g.forward_grad(0, g.dy()); });
  for (Tensor t : {x, y}) {
    const auto throws = [&](const char* method, const std::function<void(Tensor&)>& f) {
      CAPTURE(method);
      const std::string message = fmt::format(
          "{}: the tensor (2, 3) is on the tape, and its gradient would be lost; use an "
          "op that records (reshape, slice, concat), or detach() where no gradient is "
          "wanted",
          method);
      CHECK_THROWS_WITH_AS(f(t), message.c_str(), Error);
      const NoGrad no_grad;  // changes nothing: what would be lost is a rule recorded before
      CHECK_THROWS_WITH_AS(f(t), message.c_str(), Error);
      Tensor detached = t.detach();
      f(detached);
    };
    throws("view", [](const Tensor& a) { a.view({6}); });
    throws("slice", [](const Tensor& a) { a.slice(0, 1); });
    throws("clone", [](const Tensor& a) { a.clone(); });
    throws("to", [](const Tensor& a) { a.to(Dtype::f64); });
    throws("to", [](const Tensor& a) { a.to(Dtype::f32); });
    throws("to", [](const Tensor& a) { a.to(Device{}); });
    throws("copy_", [&](Tensor& a) { a.copy_(other); });
    throws("copy_", [&](const Tensor& a) { other.copy_(a); });
    throws("fill_", [](Tensor& a) { a.fill_(3); });
    throws("zero_", [](Tensor& a) { a.zero_(); });
    CHECK(to_vector<float>(t).size() == 6);  // plain numbers
  }
}
