// The same elements in another shape: Tensor::view with a gradient.
#pragma once
#include "autograd/tape.h"

namespace sg {

// x of any dtype -> `shape`, of equal numel, in the memory of x. The gradient is that of the result
// in the shape of x; nothing is copied.
Tensor reshape(const Tensor& x, const Shape& shape);

}  // namespace sg
