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
//
// What comes out of k products with weights in a row varies more, as few directions are amplified
// most: the squares of the singular values of k square matrices of independent weights have mean 1
// and mean square k + 1 (Fuss and Catalan), so a norm varies as that of length / (k + 1)
// independent elements. In a network three such norms make the error of a row: that of the errors,
// that of the activations which they were multiplied by, and that which the last norm divides by.
// Their variances add up, so t counts sqrt(3 (k + 1)) times.
double worst_row_factor(int64_t rows, int64_t length, int products = 0);

// Tensors of any device and dtype. Infinite where shapes differ or a difference is not finite.
// `whole` is against at least `least_scale`; the factor is that after so many products.
RelativeError relative_error_of(const Tensor& found, const Tensor& expected, double least_scale = 0,
                                int products = 0);

}  // namespace sg
