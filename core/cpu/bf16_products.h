#pragma once

namespace sg {

// Whether this processor multiplies bf16 (AVX512-BF16 or AMX), and oneDNN uses it: the variable
// ONEDNN_MAX_CPU_ISA can forbid it. Elsewhere bf16 is a third as fast as f32.
bool has_bf16_products();

}  // namespace sg
