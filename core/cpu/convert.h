// Rows between bf16 and the type that kernels compute in.
#pragma once
#include <cstdint>

#include "core/dtype.h"

namespace sg {

// n elements; narrowing rounds as bf16(float) does. `from` and `to` do not overlap.
void convert(const bf16* from, float* to, int64_t n);
void convert(const float* from, bf16* to, int64_t n);

}  // namespace sg
