// Rows divided by a number each, in place: sums of several windows become means.
#pragma once
#include "core/slot.h"
#include "core/tensor.h"

namespace sg {

// x (N, C), f32 or on the CPU f64; divisors (N) of its dtype. No gradient.
void divide_rows(Tensor& x, const Tensor& divisors);

namespace kernels {
using DivideRows = void(Stream&, Out x, In divisors);
constinit inline Slot<DivideRows> divide_rows{"divide_rows"};
}  // namespace kernels

}  // namespace sg
