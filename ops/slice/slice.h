// A range of any dimension, copied: Tensor::slice with a gradient; and a window of a map that
// another map is added to.
#pragma once
#include "autograd/tape.h"
#include "core/slot.h"

namespace sg {

// x f32, f64 or bf16, on cuda f32 or bf16 -> its elements [begin, end) of `dimension` (negative:
// counted from the last). The gradient of the others is zero.
Tensor slice(const Tensor& x, int dimension, int64_t begin, int64_t end);

// map (H, W, C) += window (h, w, C) at rows from `top` and columns from `left`, both of one dtype
// as above. No gradient.
void add_window(Tensor& map, const Tensor& window, int64_t top, int64_t left);

// A part of the columns of one matrix, and of as many of another with the same rows. A tensor is a
// matrix whose columns are the elements of one dimension and of those behind it.
struct ColumnRange {
  int64_t rows, columns;            // of the part
  int64_t from_begin, from_stride;  // its first column, and the columns of a row
  int64_t to_begin, to_stride;
};

namespace kernels {
// to.tensor (+)= from, in the range alone; what is beside it stays as it is.
using CopyColumns = void(Stream&, In from, const ColumnRange&, Grad to);
constinit inline Slot<CopyColumns> copy_columns{"copy_columns"};
}  // namespace kernels

}  // namespace sg
