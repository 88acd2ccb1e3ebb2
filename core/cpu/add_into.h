// Sums of arrays, element by element.
#pragma once
#include <cstdint>

#include "core/dtype.h"

namespace sg {

// to[i] += from[i] for n elements, by the calling thread: summed in AccType<S> and rounded to what
// `to` holds. `from` and `to` do not overlap.
void add_into(const float* from, float* to, int64_t n);
void add_into(const double* from, double* to, int64_t n);
void add_into(const bf16* from, bf16* to, int64_t n);
void add_into(const bf16* from, float* to, int64_t n);

}  // namespace sg
