// The inner loops of resizing, chosen for the CPU at run time.
#pragma once
#include <cstddef>
#include <cstdint>

namespace sg::data {

constexpr int kFractionBits = 22;  // of a weight
constexpr int kTapBlock = 4;  // counts of column taps are rounded up to this, weights being zero
// How far past its last pixel a source row may be read, and past its end an output row written.
constexpr size_t kRowSlack = 32;

// Of each row: out pixel i = sum over t of in[first[i] + t] * lanes[i * stride + t], where a weight
// is four int32 (w, w, w, 0), one for each channel. Rows of the output are `pitch` bytes apart.
void resize_rows(const uint8_t* const* in, int rows, const int* first, const int* count,
                 const int32_t* lanes, int stride, int width, uint8_t* out, size_t pitch);

// Byte j of out = sum over t of rows[t * row_stride + j] * weights[t]; writes `bytes` exactly and
// reads up to kRowSlack more.
void blend_rows(const uint8_t* rows, size_t row_stride, const int32_t* weights, int count,
                size_t bytes, uint8_t* out);

}  // namespace sg::data
