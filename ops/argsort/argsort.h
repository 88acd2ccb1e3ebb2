// Ranking of tokens by significance.
#pragma once
#include "autograd/tape.h"
#include "core/slot.h"

namespace sg {

// significance (B, H, W), f32 or f64 -> order (B, H * W) i32: order[b, k] is the row-major index of
// the token with rank k; ascending, equal values by lower index. NaNs rank last. No gradient.
Tensor argsort(const Tensor& significance);

namespace kernels {
using Argsort = void(Stream&, In significance, Out order);
constinit inline Slot<Argsort> argsort{"argsort"};
}  // namespace kernels

}  // namespace sg
