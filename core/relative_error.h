// How far a tensor is from what was expected.
#pragma once
#include "core/tensor.h"

namespace sg {

// In Euclidean norms. Rows are those of the last dimension. The scale of a row is its own norm, or
// the root mean square of all rows' norms where that is larger: what a small row is made of need
// not be small. A scale of 0 counts as 1.
struct RelativeError {
  double whole = 0;      // |found - expected| / |expected|
  double worst_row = 0;  // the largest |found - expected| / scale of a row
};

// Of any device and dtype. Infinite where shapes differ or a difference is not finite.
RelativeError relative_error_of(const Tensor& found, const Tensor& expected);

}  // namespace sg
