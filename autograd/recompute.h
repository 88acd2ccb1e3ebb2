// Activation checkpointing: backward computes the activations inside `f` again, none are kept.
#pragma once
#include <functional>
#include <vector>

#include "core/tensor.h"

namespace sg::autograd {

using Segment = std::function<std::vector<Tensor>(const std::vector<Tensor>& inputs)>;

// f(inputs), of which the first `differentiable` outputs carry gradients. f must be a pure function
// of its inputs and of leaves (parameters): random numbers are drawn before, or from counters.
std::vector<Tensor> recompute(const Segment& f, const std::vector<Tensor>& inputs,
                              int differentiable = 1);

}  // namespace sg::autograd
