// y += x: the one piece of arithmetic that the tape itself needs.
#pragma once
#include "core/slot.h"
#include "core/tensor.h"

namespace sg::kernels {
using AddInto = void(Stream&, In x, Out y);  // equal shapes and dtypes
constinit inline Slot<AddInto> add_into{"add_into"};
}  // namespace sg::kernels
