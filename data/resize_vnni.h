// Resizing by AVX-512 VNNI, whose instruction multiplies bytes and adds four products at once.
#pragma once
#include "data/resize.h"

namespace sg::data {

// Both passes of in_rows rows, which are read as resize_rows() reads them; `rows` are taps of `in`,
// in rising order. False, and nothing is done, where the CPU has no such instructions, taps are
// many, the pixels of neighbouring positions too far apart for a vector, or `width` less than one.
bool resize_vnni(const uint8_t* const* in, int in_rows, const Taps& columns, const Taps& rows,
                 int width, int height, uint8_t* out);

}  // namespace sg::data
