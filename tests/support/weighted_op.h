// What the tests of linear and conv2d share: ops y = op(x, w, b) of the weights w and b.
#pragma once
#include <doctest/doctest.h>

#include <functional>
#include <optional>
#include <vector>

#include "autograd/tape.h"
#include "core/allocator.h"
#include "core/cpu/parallel.h"
#include "tests/support/op_case.h"

namespace sg::test {

using WeightedOp = std::function<Tensor(const Tensor& x, const Tensor& w, const Tensor& b)>;

// y and the gradients of x, w and b, from random values of these shapes; b has a value a row of w.
// Values are rounded to `dtype`; w and b then have it, or that given for them.
inline std::vector<std::vector<float>> values_of(const WeightedOp& op, const Shape& x_shape,
                                                 const Shape& w_shape, Dtype dtype,
                                                 std::optional<Dtype> of_weights = {}) {
  const auto values = [&](const Shape& shape, uint64_t stream) {
    return random(shape, stream).to(dtype);
  };
  const auto weight = [&](const Shape& shape, uint64_t stream) {
    const Tensor value = of_weights ? random(shape, stream).to(*of_weights) : values(shape, stream);
    return autograd::leaf(value, zeros(shape));
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

// Weights of f32 give the bits of weights that were rounded to bf16 before, and forward keeps no
// rounded copy of them for backward.
inline void check_f32_weights(const WeightedOp& op, const Shape& x_shape, const Shape& w_shape) {
  const auto rounded = values_of(op, x_shape, w_shape, Dtype::bf16);
  CHECK((values_of(op, x_shape, w_shape, Dtype::bf16, Dtype::f32) == rounded));

  const Tensor x = autograd::leaf(random(x_shape, 1).to(Dtype::bf16));
  const auto kept = [&](Dtype dtype) {
    const Tensor w = autograd::leaf(random(w_shape, 2).to(dtype), zeros(w_shape));
    const Tensor b = autograd::leaf(random({w_shape[0]}, 3).to(dtype), zeros({w_shape[0]}));
    const size_t before = Allocator::of({}).stats().in_use;
    const Tensor y = op(x, w, b);
    return Allocator::of({}).stats().in_use - before;
  };
  CHECK(kept(Dtype::f32) == kept(Dtype::bf16));
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
