// The other half of clear_grad() in tape.h.
#pragma once
#include "core/tensor.h"

namespace sg::autograd {

// The buffer of the leaf holds a gradient, to which the next one is added: for who knows that it
// was written, be it by work that was recorded before and did not run on the host.
void keep_grad(const Tensor& leaf);

}  // namespace sg::autograd
