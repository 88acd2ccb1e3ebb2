// What the tests of linear and conv2d share: ops y = op(x, w, b) of the weights w and b.
#pragma once
#include <doctest/doctest.h>

#include <functional>
#include <vector>

#include "autograd/tape.h"
#include "core/allocator.h"
#include "core/cpu/parallel.h"
#include "tests/support/op_case.h"

namespace sg::test {

using WeightedOp = std::function<Tensor(const Tensor& x, const Tensor& w, const Tensor& b)>;

// y and the gradients of x, w and b, from random values of these shapes; b has a value a row of w.
inline std::vector<std::vector<float>> values_of(const WeightedOp& op, const Shape& x_shape,
                                                 const Shape& w_shape, Dtype dtype) {
  const auto values = [&](const Shape& shape, uint64_t stream) {
    return random(shape, stream).to(dtype);
  };
  const auto weight = [&](const Shape& shape, uint64_t stream) {
    return autograd::leaf(values(shape, stream), zeros(shape));
  };
  const Tensor x = autograd::leaf(values(x_shape, 1)), w = weight(w_shape, 2),
               b = weight({w_shape[0]}, 3);
  const Tensor y = op(x, w, b);
  autograd::backward({y}, {values(y.shape(), 4)});
  std::vector<std::vector<float>> found;
  for (const Tensor& t :
       {y.detach(), autograd::grad_of(x), autograd::grad_of(w), autograd::grad_of(b)})
    found.push_back(to_vector<float>(t.to(Dtype::f32)));
  return found;
}

inline void check_same_bits_of_threads(const WeightedOp& op, const Shape& x, const Shape& w,
                                       Dtype dtype) {
  CAPTURE(x.str());
  CAPTURE(name_of(dtype));
  const int before = num_threads();
  set_num_threads(1);
  const auto expected = values_of(op, x, w, dtype);
  for (const int threads : {2, 3, 8}) {
    set_num_threads(threads);
    CHECK((values_of(op, x, w, dtype) == expected));
  }
  set_num_threads(before);
}

// The same bits twice, and nothing allocated the second time.
inline void check_steady(const WeightedOp& op, const Shape& x, const Shape& w, Dtype dtype) {
  CAPTURE(name_of(dtype));
  const auto first = values_of(op, x, w, dtype);
  values_of(op, x, w, dtype);
  const size_t before = Allocator::of({}).stats().system_allocations;
  const auto second = values_of(op, x, w, dtype);
  CHECK(Allocator::of({}).stats().system_allocations == before);
  CHECK((first == second));
}

}  // namespace sg::test
