// Sums over ranks, in SIMD and by the calling thread alone: it runs beside the threads of the step.
#pragma once
#include <cstdint>
#include <span>

#include "core/dtype.h"

namespace sg::dist {

// to[i] = rows[0][i] + rows[1][i] + ..., added in this order, for n elements; `to` may be a row.
// bf16 is summed in f32 and rounded once. f32, bf16, f64 and i32.
void sum_rows(Dtype dtype, std::span<const void* const> rows, void* to, int64_t n);

}  // namespace sg::dist
