// A pointwise function that an operation applies to its result before storing it. For ReLU alone
// there is ops/relu; layer_norm and group_norm take none or gelu, batch_norm none or relu,
// depthwise3x3_add_gelu() always applies GELU.
// The arithmetic is gelu() and gelu_grad() in core/cpu/simd-inl.h and core/cuda/kernel.cuh.
#pragma once

namespace sg {
enum class Activation { none, gelu, relu };  // gelu: exact, x * Phi(x)
}  // namespace sg
