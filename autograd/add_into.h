// y += x: the one piece of arithmetic that the tape itself needs.
#pragma once
#include "core/slot.h"
#include "core/tensor.h"

namespace sg {

void add_into(const Tensor& x, Out y);  // equal shapes and dtypes

namespace kernels {
using AddInto = void(Stream&, In x, Out y);
constinit inline Slot<AddInto> add_into{"add_into"};
}  // namespace kernels

}  // namespace sg
