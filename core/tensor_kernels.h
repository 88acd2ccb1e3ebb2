// The arithmetic that tensors themselves need.
#pragma once
#include "core/slot.h"
#include "core/tensor.h"

namespace sg::kernels {
using Convert = void(Stream&, In x, Out y);  // equal numel, any two dtypes that the device has
using Fill = void(Stream&, double value, Out y);
constinit inline Slot<Convert> convert{"convert"};
constinit inline Slot<Fill> fill{"fill"};
}  // namespace sg::kernels
