// Sums over the rows of a matrix: the gradient of a bias.
#pragma once
#include <cstdint>

#include "core/acc_type.h"

namespace sg {

// sum (n) = column sums of a (rows, n), plus sum itself if `accumulate`: the gradient of a bias.
// The same bits for any number of threads. S is float, bf16 or double.
template <class S>
void column_sums(int64_t rows, int64_t n, const S* a, AccType<S>* sum, bool accumulate);

}  // namespace sg
