#include "ops/linear/linear.h"

#include <doctest/doctest.h>

#include "core/cpu/parallel.h"
#include "tests/support/naive.h"
#include "tests/support/op_case.h"
#include "tests/support/weighted_op.h"

using namespace sg;
using namespace sg::test;

namespace {

OpCase linear_case(int64_t rows, int64_t k, int64_t n, bool bias) {
  OpCase test;
  test.name = fmt::format("rows {} k {} n {} bias {}", rows, k, n, bias);
  test.inputs = {test::random({rows, k}, 1), test::random({n, k}, 2)};
  test.roles = {Role::activation, Role::weight, Role::weight};
  if (bias) test.inputs.push_back(test::random({n}, 3));
  test.op = [=](auto& in) -> std::vector<Tensor> {
    return {linear(in[0], in[1], bias ? in[2] : Tensor())};
  };
  test.reference = [=](auto& in) -> std::vector<Tensor> {
    return {naive::linear(in[0], in[1], bias ? in[2] : Tensor())};
  };
  test.terms = std::max({rows, k, n});
  return test;
}

}  // namespace

TEST_CASE("linear: value and gradients against the naive form") {
  for (const auto& [rows, k, n] :
       {std::array{1, 1, 1}, {5, 7, 3}, {2, 64, 1}, {1, 3, 65}, {33, 1, 17}, {130, 31, 48}})
    for (const bool bias : {false, true}) run(linear_case(rows, k, n, bias));
}

TEST_CASE("linear: each gradient alone") {
  for (int only = 0; only < 3; ++only) {
    OpCase test = linear_case(9, 7, 5, true);
    test.wanted = {only == 0, only == 1, only == 2};
    run(test);
  }
}

TEST_CASE("linear: gradients of many rows, in slices and parts") {
  const int before = num_threads();
  for (const int threads : {1, 2}) {
    set_num_threads(threads);
    run(linear_case(5000, 3, 2, true));
  }
  set_num_threads(before);
  run(linear_case(600, 4, 7, true));
}

TEST_CASE("linear: the same bits with 1, 2, 3 and 8 threads") {
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16})
    for (const int64_t rows : {1, 392, 2048, 4096})
      check_same_bits_of_threads(linear, {rows, 64}, {48, 64}, dtype);
}

TEST_CASE("linear: leading dimensions are rows") {
  const Tensor x = test::random({2, 3, 4, 5}, 1), w = test::random({6, 5}, 2);
  const Tensor y = linear(x, w, {});
  CHECK(y.shape() == Shape{2, 3, 4, 6});
  CHECK(relative_error(y.view({24, 6}), linear(x.view({24, 5}), w, {})) == 0);
}

TEST_CASE("linear: without rows, weights have a gradient of zero") {
  for (const auto& [dtype, device] :
       {std::pair{Dtype::f32, Device{}}, {Dtype::f64, Device{}}, {Dtype::f32, kCuda}}) {
    if (device == kCuda && !have_cuda()) continue;
    const Tensor x = autograd::leaf(zeros({0, 5}, dtype, device));
    const Tensor w = autograd::leaf(full({3, 5}, 1, dtype, device));
    const Tensor b = autograd::leaf(full({3}, 1, dtype, device));
    const Tensor y = linear(x, w, b);
    CHECK(y.shape() == Shape{0, 3});
    autograd::backward({y}, {y.detach()});
    CHECK(relative_error(autograd::grad_of(w), zeros({3, 5}, dtype)) == 0);
    CHECK(relative_error(autograd::grad_of(b), zeros({3}, dtype)) == 0);
  }
}

TEST_CASE("linear: the same bits twice, and nothing allocated the second time") {
  const int threads = num_threads();
  set_num_threads(3);
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16})
    check_steady(linear, {700, 96}, {130, 96}, dtype);
  set_num_threads(threads);
}

TEST_CASE("linear: f32 weights of a bf16 x are rounded where they are multiplied") {
  for (const int64_t rows : {5, 3200}) check_f32_weights(linear, {rows, 64}, {48, 64});
}

TEST_CASE("linear: wrong arguments are named") {
  const Tensor x = zeros({2, 8}), w = zeros({4, 8});
  CHECK_THROWS_WITH_AS(linear(x, zeros({4, 7}), {}),
                       "linear: x: expected shape (2, 7), found (2, 8)", Error);
  CHECK_THROWS_WITH_AS(linear(x, w, zeros({8})), "linear: b: expected shape (4), found (8)", Error);
  CHECK_THROWS_WITH_AS(linear(x, zeros({4, 8}, Dtype::f64), {}),
                       "linear: w: expected f32 on cpu, found f64 on cpu", Error);
  CHECK_THROWS_WITH_AS(linear(x, zeros({0, 8}), {}),
                       "linear: w: expected rows and columns, found (0, 8)", Error);
  CHECK_THROWS_WITH_AS(linear(zeros({2, 8}, Dtype::u8), zeros({4, 8}, Dtype::u8), {}),
                       "linear: dtype u8 is not supported here", Error);
}
