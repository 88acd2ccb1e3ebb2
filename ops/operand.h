// Weights of a matmul (or its bias) that may be of another dtype than what they multiply.
#pragma once
#include "core/tensor.h"

namespace sg {

// The same device, and the dtype of x or acc_dtype() of it: what as_operand() takes.
inline void check_operand(std::string_view op, std::string_view arg, const Tensor& weights,
                          const Tensor& x) {
  if (weights && weights.dtype() == acc_dtype(x.dtype()))
    check_acc_dtype(op, arg, weights, x);
  else
    check_like(op, arg, weights, x);
}

// The weights (or undefined) as they multiply x: themselves where they are of its dtype, else a
// copy, rounded to it. An operation makes it when it multiplies and keeps it no longer, so that a
// model that trains does not hold its weights twice.
inline Tensor as_operand(const Tensor& weights, const Tensor& x) {
  return weights ? weights.detach().to(x.dtype()) : weights;
}

}  // namespace sg
