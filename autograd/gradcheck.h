// Compares gradients of the tape with finite differences, in float64.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace sg::autograd {

using Differentiable = std::function<std::vector<Tensor>(const std::vector<Tensor>& inputs)>;

struct GradcheckResult {
  double error = 0;   // largest |analytic - numeric| / scale over all probes
  std::string where;  // the probe that gave it, e.g. "input 2, direction 1"
};

// f at f64 `inputs`; `wanted[i]` says whether input i is differentiated (empty: all). The scalar
// <f(x), u> with a fixed random u is probed along random directions, and along single elements, of
// each wanted input by a fourth-order difference (error of order step^4). `scale` of a probe is
// the norm of the gradient times that of the direction, so an error in one element shows.
GradcheckResult gradcheck(const Differentiable& f, const std::vector<Tensor>& inputs,
                          const std::vector<bool>& wanted = {}, double step = 1e-3);

}  // namespace sg::autograd
