// The inner loops of resizing, chosen for the CPU at run time.
#pragma once
#include "data/resize.h"

namespace sg::data {

constexpr int kFractionBits = 22;  // of a weight
constexpr int kPixelBlock = 4;     // so many output pixels are made at once
// How far past its end an output row may be written, and past its last tap an input row read.
constexpr size_t kRowSlack = 64;

// Of each row: out pixel i = sum over t of in[first[i] + t] * weights_of(i)[t], all `stride` of
// them. `taps` reach to a multiple of kPixelBlock. Rows of the output are `pitch` bytes apart.
void resize_rows(const uint8_t* const* in, int rows, const Taps& taps, int width, uint8_t* out,
                 size_t pitch);

// Byte j of out = sum over t of rows[t * row_stride + j] * weights[t]; writes `bytes` exactly and
// reads up to kRowSlack more.
void blend_rows(const uint8_t* rows, size_t row_stride, const int32_t* weights, int count,
                size_t bytes, uint8_t* out);

}  // namespace sg::data
