#pragma once
#include <string>

namespace sg {

// Whether this processor multiplies bf16 (AVX512-BF16 or AMX), and oneDNN uses it: the variable
// ONEDNN_MAX_CPU_ISA can forbid it. Elsewhere bf16 is a third as fast as f32.
bool has_bf16_products();
// Whether it does so by AMX, fifteen times as fast as f32 (core/cpu/amx.h). Processors that have
// AMX do not gain from AVX512-BF16: its products are half as fast as those of f32 (3.3 GHz Granite
// Rapids, a core: 3100, 106 and 211 GFLOP/s).
bool has_amx();

// The newest instructions of this processor that oneDNN uses: "AVX512-BF16", "AVX2"; and that
// variable, where it forbids others: "AVX512 (ONEDNN_MAX_CPU_ISA=AVX512_CORE)".
std::string cpu_instructions();

}  // namespace sg
