// How far a tensor is from what was expected.
#pragma once
#include "core/tensor.h"

namespace sg {

// In Euclidean norms. Rows are those of the last dimension. The scale of a row is its own norm, or
// the root mean square of all rows' norms where that is larger: what a small row is made of need
// not be small. A scale of 0 counts as 1.
struct RelativeError {
  double whole = 0;       // |found - expected| / |expected|
  double worst_row = 0;   // the largest |found - expected| / scale of a row
  double row_factor = 1;  // worst_row_factor() of the shape

  bool within(double bound) const { return whole <= bound && worst_row <= bound * row_factor; }
};

// By how much the worst of `rows` rows of `length` elements may be off more than all together. The
// norm of `length` independent errors of deviation 1 is sqrt(length) on average, and larger by t
// with a probability below exp(-t^2 / 2); so the largest of all exceeds it by sqrt(2 ln rows).
double worst_row_factor(int64_t rows, int64_t length);

// Tensors of any device and dtype. Infinite where shapes differ or a difference is not finite.
// `whole` is against at least `least_scale`.
RelativeError relative_error_of(const Tensor& found, const Tensor& expected,
                                double least_scale = 0);

}  // namespace sg
