// max(x, 0), where no norm comes before it that could apply it (ops/activation.h).
#pragma once
#include "autograd/tape.h"
#include "core/slot.h"

namespace sg {

// x f32, f64 or bf16, any shape. Backward keeps the result alone, and not x. What is not a number
// stays so, and has no gradient.
Tensor relu(const Tensor& x);

namespace kernels {
using ReluFwd = void(Stream&, In x, Out y);
using ReluBwd = void(Stream&, In dy, In y, Grad dx);
constinit inline Slot<ReluFwd> relu_fwd{"relu.fwd"};
constinit inline Slot<ReluBwd> relu_bwd{"relu.bwd"};
}  // namespace kernels

}  // namespace sg
