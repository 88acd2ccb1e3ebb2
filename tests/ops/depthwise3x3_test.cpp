#include "ops/depthwise3x3/depthwise3x3.h"

#include <doctest/doctest.h>

#include "core/cpu/parallel.h"
#include "ops/linear/linear.h"
#include "tests/support/naive.h"
#include "tests/support/op_case.h"

using namespace sg;
using namespace sg::test;
using kernels::Columns, kernels::DepthwiseForm;

namespace {

const std::vector<Shape>
    kShapes{{1, 1, 1, 7},   {2, 1, 3, 8},  {1, 2, 1, 24}, {2, 2, 2, 1},
            {1, 3, 2, 65},  {3, 3, 3, 24}, {1, 5, 4, 7},  {2, 9, 7, 16},
            {1, 1, 113, 2}, {2, 4, 14, 32}};  // the last fills the blocks of backward

std::vector<Tensor> arguments(const Shape& x, int64_t channels, bool bias) {
  return {test::random(x, 1), test::random({3, 3, channels}, 2),
          bias ? test::random({channels}, 3) : Tensor()};
}

// The emulation is slow: there a few shapes go without bias, all with.
bool on_cuda(const Shape& s, bool bias) { return bias || s[3] == 7 || !emulated(); }

const std::vector<Role> kRoles{Role::activation, Role::parameter, Role::parameter};

// The columns [column, column + channels) of every pixel.
Tensor columns_of(const Tensor& x, int64_t column, int64_t channels) {
  std::vector<int64_t> index;
  for (int64_t i = 0; i < x.numel() / x.dim(3); ++i)
    for (int64_t c = 0; c < channels; ++c) index.push_back(i * x.dim(3) + column + c);
  return naive::gather(x, index, x.shape().with_last(channels));
}

// y + depthwise(columns of x) as attention uses the kernels.
Tensor add_into(const Tensor& x, Columns cols, const Tensor& w, const Tensor& b, const Tensor& y0) {
  Tensor y = y0.detach().clone();
  kernels::depthwise3x3_fwd(x.stream(), x, cols, w, b, 1, DepthwiseForm::add_into, y);
  autograd::record("add_into", {&y}, {x, w, b, y0}, [=](autograd::Backward& g) {
    Tensor dx = full(x.shape(), 0, x.dtype(), x.device());
    kernels::depthwise3x3_bwd(x.stream(), g.dy(), x, cols, w, b, 1, DepthwiseForm::add_into,
                              Grad{dx}, {}, g.grad(1), g.grad(2));
    g.forward_grad(0, dx);
    g.forward_grad(3, g.dy());
  });
  return y;
}

}  // namespace

TEST_CASE("depthwise3x3: value and gradients against the composed form") {
  for (const Shape& s : kShapes)
    for (const int stride : {1, 2})
      for (const bool bias : {true, false}) {
        OpCase c;
        c.name = fmt::format("{} stride {} bias {}", s.str(), stride, bias);
        c.inputs = arguments(s, s[3], bias);
        c.roles = kRoles;
        c.cuda = on_cuda(s, bias);
        c.op = [=](auto& in) -> std::vector<Tensor> {
          return {depthwise3x3(in[0], in[1], in[2], stride)};
        };
        c.reference = [=](auto& in) -> std::vector<Tensor> {
          return {naive::depthwise3x3(in[0], in[1], in[2], stride)};
        };
        c.terms = std::max<int64_t>(9, s[0] * s[1] * s[2]);
        run(c);
      }
}

TEST_CASE("depthwise3x3_add_gelu: value and gradients against the composed form") {
  for (const Shape& s : kShapes)
    for (const bool bias : {true, false}) {
      OpCase c;
      c.name = fmt::format("{} bias {}", s.str(), bias);
      c.inputs = arguments(s, s[3], bias);
      c.roles = kRoles;
      c.cuda = on_cuda(s, bias);
      c.op = [](auto& in) -> std::vector<Tensor> {
        return {depthwise3x3_add_gelu(in[0], in[1], in[2])};
      };
      c.reference = [](auto& in) -> std::vector<Tensor> {
        return {naive::gelu(naive::add(in[0], naive::depthwise3x3(in[0], in[1], in[2], 1)))};
      };
      c.terms = std::max<int64_t>(9, s[0] * s[1] * s[2]);
      run(c);
    }
}

TEST_CASE("depthwise3x3: the bias of the projection before gets its gradient") {
  for (const Shape& s : {Shape{2, 9, 15, 16}, Shape{1, 3, 2, 65}})
    for (const int stride : {0, 1, 2}) {  // 0: add_gelu
      OpCase c;
      c.name = fmt::format("{} stride {} after linear", s.str(), stride);
      c.ops = 2;
      const int64_t n = s[3], k = 8;
      c.inputs = {test::random(s.with_last(k), 1), test::random({n, k}, 2, -0.5, 0.5),
                  test::random({n}, 3), test::random({3, 3, n}, 4), test::random({n}, 5)};
      c.roles = {Role::activation, Role::weight, Role::weight, Role::parameter, Role::parameter};
      c.op = [=](auto& in) -> std::vector<Tensor> {
        const Tensor x = linear(in[0], in[1], in[2]);
        return {stride ? depthwise3x3(x, in[3], in[4], stride)
                       : depthwise3x3_add_gelu(x, in[3], in[4])};
      };
      c.reference = [=](auto& in) -> std::vector<Tensor> {
        const Tensor x = naive::linear(in[0], in[1], in[2]);
        const Tensor y = naive::depthwise3x3(x, in[3], in[4], std::max(stride, 1));
        return {stride ? y : naive::gelu(naive::add(x, y))};
      };
      c.terms = std::max<int64_t>(9, s[0] * s[1] * s[2]);
      run(c);
    }
}

TEST_CASE("depthwise3x3: added into a map from columns of a wider one") {
  for (const int64_t channels : {1, 8, 24})
    for (const bool bias : {true, false}) {
      const int64_t ld = 3 * channels + 2, column = channels + 1;
      OpCase c;
      c.name = fmt::format("channels {} bias {}", channels, bias);
      c.inputs = arguments({2, 5, 3, ld}, channels, bias);
      c.inputs.push_back(test::random({2, 5, 3, channels}, 4));
      c.roles = kRoles;
      c.roles.push_back(Role::activation);
      c.op = [=](auto& in) -> std::vector<Tensor> {
        return {add_into(in[0], {column, ld}, in[1], in[2], in[3])};
      };
      c.reference = [=](auto& in) -> std::vector<Tensor> {
        const Tensor x = columns_of(in[0], column, channels);
        return {naive::add(in[3], naive::depthwise3x3(x, in[1], in[2], 1))};
      };
      c.terms = 30;
      run(c);
    }
}

TEST_CASE("depthwise3x3: gradients of columns leave the others alone, and add where asked") {
  const int64_t channels = 24, ld = 40, column = 9;
  const auto in = arguments({1, 4, 3, ld}, channels, true);
  const Tensor dy = test::random({1, 4, 3, channels}, 5);
  const auto gradient = [&](DepthwiseForm form, double start, bool accumulate) {
    Tensor dx = full(in[0].shape(), start, Dtype::f64);
    kernels::depthwise3x3_bwd(dy.stream(), dy, in[0], {column, ld}, in[1], in[2], 1, form,
                              Grad{dx, accumulate}, {}, {}, {});
    return dx;
  };
  for (const DepthwiseForm form :
       {DepthwiseForm::plain, DepthwiseForm::add_into, DepthwiseForm::add_gelu}) {
    const auto zero = to_vector<double>(gradient(form, 0, false)),
               written = to_vector<double>(gradient(form, 3, false)),
               added = to_vector<double>(gradient(form, 3, true));
    for (size_t i = 0; i < zero.size(); ++i) {
      const int64_t c = int64_t(i) % ld - column;
      const bool ours = c >= 0 && c < channels;
      CHECK(written[i] == (ours ? zero[i] : 3));
      CHECK(added[i] == zero[i] + 3);
    }
  }
}

TEST_CASE("depthwise3x3: the number of threads changes nothing") {
  const int before = num_threads();
  const Shape s{3, 13, 5, 40};
  const auto results = [&](int threads, DepthwiseForm form) {
    set_num_threads(threads);
    const auto in = arguments(s, s[3], true);
    Tensor y = empty_like(in[0]), dx = empty_like(in[0]), dw = empty_like(in[1]),
           db = empty_like(in[2]), sums = empty_like(in[2]), dy = test::random(s, 4);
    kernels::depthwise3x3_fwd(dy.stream(), in[0], {0, s[3]}, in[1], in[2], 1, form, y);
    kernels::depthwise3x3_bwd(dy.stream(), dy, in[0], {0, s[3]}, in[1], in[2], 1, form, Grad{dx},
                              sums, Grad{dw}, Grad{db});
    std::vector<double> all;
    for (const Tensor& t : {y, dx, sums, dw, db})
      for (double v : to_vector<double>(t)) all.push_back(v);
    return all;
  };
  for (const DepthwiseForm form : {DepthwiseForm::plain, DepthwiseForm::add_gelu}) {
    const auto one = results(1, form);
    for (const int threads : {2, 3, 5}) CHECK(results(threads, form) == one);
  }
  set_num_threads(before);
}

TEST_CASE("depthwise3x3: wrong arguments are named") {
  const Tensor x = zeros({1, 4, 4, 8}), w = zeros({3, 3, 8}), b = zeros({8});
  CHECK_THROWS_WITH_AS(depthwise3x3(x, w, b, 3), "depthwise3x3: stride: expected 1 or 2, found 3",
                       Error);
  CHECK_THROWS_WITH_AS(depthwise3x3(x, zeros({8, 3, 3}), b, 1),
                       "depthwise3x3: w: expected shape (3, 3, 8), found (8, 3, 3)", Error);
  CHECK_THROWS_WITH_AS(depthwise3x3_add_gelu(x, w, zeros({4})),
                       "depthwise3x3_add_gelu: b: expected shape (8), found (4)", Error);
  CHECK_THROWS_WITH_AS(depthwise3x3(zeros({1, 0, 4, 8}), w, b, 1),
                       "depthwise3x3: x: the map (1, 0, 4, 8) has no pixels", Error);
}
