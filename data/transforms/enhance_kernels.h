// The inner loops of data/transforms/enhance.h, chosen for the CPU at run time.
#pragma once
#include <cstddef>
#include <cstdint>

namespace sg::data {

// How far past the end of a source row sharpen_row() may read.
constexpr size_t kSharpenSlack = 64;

// Pillow's grey of `count` RGB pixels, summed; a row's.
uint64_t sum_grey(const uint8_t* pixels, size_t count);
// Blends each of `count` RGB pixels with its grey, in place.
void saturate_pixels(uint8_t* pixels, size_t count, float factor);
// Blends `bytes` bytes with the smoothed ones, from a pixel's neighbours of three bytes before and
// after, in its row and in those above and below. Writes `bytes` exactly.
void sharpen_row(const uint8_t* above, const uint8_t* row, const uint8_t* below, size_t bytes,
                 float factor, uint8_t* out);

}  // namespace sg::data
