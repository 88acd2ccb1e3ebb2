// The ops that only move elements: reshape, slice, concat.
#include <doctest/doctest.h>

#include <numeric>

#include "ops/concat/concat.h"
#include "ops/reshape/reshape.h"
#include "ops/slice/slice.h"
#include "tests/support/naive.h"
#include "tests/support/op_case.h"

using namespace sg;
using namespace sg::test;

namespace {

// Where elements [begin, end) of dimension d of a tensor of shape s lie in its memory.
std::vector<int64_t> elements(const Shape& s, int d, int64_t begin, int64_t end) {
  int64_t inner = 1;
  for (int i = d + 1; i < s.size(); ++i) inner *= s[i];
  std::vector<int64_t> all;
  for (int64_t i = 0; i < s.numel(); ++i)
    if (const int64_t at = i / inner % s[d]; begin <= at && at < end) all.push_back(i);
  return all;
}

Shape with_dim(const Shape& s, int d, int64_t size) {
  Shape other;
  for (int i = 0; i < s.size(); ++i) other.push_back(i == d ? size : s[i]);
  return other;
}

}  // namespace

TEST_CASE("reshape: value and gradient; the memory is shared") {
  OpCase c;
  c.inputs = {test::random({4, 3, 5}, 1)};
  c.op = [](auto& in) -> std::vector<Tensor> { return {reshape(in[0], {2, 30})}; };
  c.reference = [](auto& in) -> std::vector<Tensor> {
    std::vector<int64_t> same(60);
    std::iota(same.begin(), same.end(), 0);
    return {naive::gather(in[0], same, {2, 30})};
  };
  run(c);
  const Tensor x = autograd::leaf(zeros({2, 3}));
  CHECK(reshape(x, {6}).detach().same_memory(x));
  CHECK_THROWS_WITH_AS(reshape(x, {5}), "reshape: x: (2, 3) has 6 elements, (5) has 5", Error);
}

TEST_CASE("reshape: a gradient passed on is not written through another name") {
  const Tensor x = autograd::leaf(full({2, 2}, 1, Dtype::f64));
  const Tensor y = naive::multiply(x, x), flat = reshape(y, {4});
  // y gets a gradient that shares memory with that of `flat`, and another one added to it.
  const Tensor d_flat = full({4}, 1, Dtype::f64);
  autograd::backward({flat, y}, {d_flat, full({2, 2}, 2, Dtype::f64)});
  CHECK(to_vector<double>(autograd::grad_of(x)) == std::vector<double>(4, 6));
  CHECK(to_vector<double>(d_flat) == std::vector<double>(4, 1));
}

TEST_CASE("slice: value and gradient of any dimension") {
  struct Range {
    Shape shape;
    int dimension;
    int64_t begin, end;
  };
  for (const Range& r : {Range{{7}, 0, 2, 5}, Range{{3, 5, 7}, 0, 1, 2}, Range{{3, 5, 7}, 1, 1, 4},
                         Range{{3, 5, 7}, 2, 0, 3}, Range{{2, 6, 16}, 2, 8, 16},
                         Range{{2, 6, 16}, 1, 0, 6}, Range{{40, 33, 32}, 1, 4, 30}}) {
    OpCase c;
    c.name = fmt::format("{} dimension {} [{}, {})", r.shape.str(), r.dimension, r.begin, r.end);
    c.inputs = {test::random(r.shape, 1)};
    c.op = [=](auto& in) -> std::vector<Tensor> {
      return {slice(in[0], r.dimension, r.begin, r.end)};
    };
    c.reference = [=](auto& in) -> std::vector<Tensor> {
      return {naive::gather(in[0], elements(r.shape, r.dimension, r.begin, r.end),
                            with_dim(r.shape, r.dimension, r.end - r.begin))};
    };
    run(c);
  }
  const Tensor x = from_vector<float>({0, 1, 2, 3, 4, 5}, {2, 3});
  CHECK(to_vector<float>(slice(x, -1, 1, 3)) == std::vector<float>{1, 2, 4, 5});
  CHECK(slice(x, 1, 2, 2).shape() == Shape{2, 0});
  CHECK(to_vector<float>(slice(x.to(Dtype::bf16), 0, 1, 2)) == std::vector<float>{3, 4, 5});
  CHECK_THROWS_WITH_AS(slice(x, 2, 0, 1), "slice: dimension: expected one of (2, 3), found 2",
                       Error);
  CHECK_THROWS_WITH_AS(slice(x, 1, 2, 4), "slice: [2, 4) of dimension 1 of (2, 3) does not exist",
                       Error);
}

TEST_CASE("slice: gradients of slices of one tensor add up, in bf16 on the CPU too") {
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
    const Tensor x = autograd::leaf(zeros({3, 2}, dtype), zeros({3, 2}));
    const Tensor y = reshape(x, {3, 2});  // not a leaf: its gradient has the dtype of x
    const Tensor a = slice(y, 0, 0, 2), b = slice(y, 0, 1, 3);
    autograd::backward({a, b}, {full({2, 2}, 1, dtype), full({2, 2}, 2, dtype)});
    CHECK(to_vector<float>(autograd::grad_of(x)) == std::vector<float>{1, 1, 3, 3, 2, 2});
  }
}

TEST_CASE("add_window: a map is added where it lies in another") {
  for (const Device device : test::devices())
    for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
      Tensor map = full({4, 5, 3}, 1, dtype, device);
      const Tensor window = from_vector<float>({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, {2, 2, 3});
      add_window(map, window.to(dtype).to(device), 2, 3);
      std::vector<float> expected(60, 1);
      for (size_t i = 0; i < 12; ++i) expected[(2 + i / 6) * 15 + 9 + i % 6] += float(i + 1);
      CHECK(to_vector<float>(map) == expected);
    }
  Tensor map = zeros({4, 5, 3});
  for (const auto& [top, left] : {std::pair(3, 0), {0, 4}, {-1, 0}})
    CHECK_THROWS_WITH_AS(add_window(map, zeros({2, 2, 3}), top, left),
                         fmt::format("add_window: a window (2, 2, 3) at ({}, {}) does not lie in a "
                                     "map (4, 5, 3)",
                                     top, left)
                             .c_str(),
                         Error);
  CHECK_THROWS_AS(add_window(map, autograd::leaf(zeros({2, 2, 3})), 0, 0), Error);
}

TEST_CASE("concat: value and gradients along any dimension") {
  for (const Shape& s : {Shape{3, 4, 8}, Shape{2, 3, 5}})
    for (int d = 0; d < 3; ++d) {
      const std::vector<int64_t> sizes{1, s[d], 8};
      OpCase c;
      c.name = fmt::format("{} dimension {}", s.str(), d);
      for (size_t i = 0; i < sizes.size(); ++i)
        c.inputs.push_back(test::random(with_dim(s, d, sizes[i]), i + 1));
      c.op = [=](auto& in) -> std::vector<Tensor> { return {concat(in, d - 3)}; };
      c.reference = [=](auto& in) -> std::vector<Tensor> {
        const Shape whole = with_dim(s, d, 9 + s[d]);
        std::vector<int64_t> from(size_t(whole.numel()));
        int64_t at = 0, flat = 0;
        for (size_t i = 0; i < in.size(); ++i, at += sizes[i - 1])
          for (const int64_t e : elements(whole, d, at, at + sizes[i])) from[size_t(e)] = flat++;
        return {naive::gather(naive::concat(in, {flat}), from, whole)};
      };
      run(c);
    }
  CHECK_THROWS_WITH_AS(concat({}, 0), "concat: parts: expected at least one tensor", Error);
  CHECK_THROWS_WITH_AS(concat({zeros({2, 3}), zeros({2, 4})}, 0),
                       "concat: parts: expected shape (2, 3), found (2, 4)", Error);
  CHECK_THROWS_WITH_AS(concat({zeros({2, 3})}, 2),
                       "concat: dimension: expected one of (2, 3), found 2", Error);
}
