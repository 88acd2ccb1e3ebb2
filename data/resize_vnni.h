// The horizontal pass of resizing by AVX-512 VNNI, whose instruction multiplies bytes and adds four
// products at once.
#pragma once
#include "data/resize.h"

namespace sg::data {

// As resize_rows(). False, and nothing is done, where the CPU has no such instructions or the
// pixels of neighbouring positions are too far apart for a vector.
bool resize_rows_vnni(const uint8_t* const* in, int rows, const Taps& taps, int width, uint8_t* out,
                      size_t pitch);

}  // namespace sg::data
