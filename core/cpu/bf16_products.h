#pragma once
#include <string>

namespace sg {

// Whether this processor multiplies bf16 (AVX512-BF16 or AMX), and oneDNN uses it: the variable
// ONEDNN_MAX_CPU_ISA can forbid it. Elsewhere bf16 is a third as fast as f32.
bool has_bf16_products();

// The newest instructions of this processor that oneDNN uses: "AVX512-BF16", "AVX2"; and that
// variable, where it forbids others: "AVX512 (ONEDNN_MAX_CPU_ISA=AVX512_CORE)".
std::string cpu_instructions();

}  // namespace sg
