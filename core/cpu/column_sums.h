// Sums over the rows of a matrix: the gradient of a bias.
#pragma once
#include <cstdint>

namespace sg {

// sum (n) = column sums of a (rows, n), plus sum itself if `accumulate`: the gradient of a bias.
// The same bits for any number of threads. T is float or double.
template <class T>
void column_sums(int64_t rows, int64_t n, const T* a, T* sum, bool accumulate);

}  // namespace sg
