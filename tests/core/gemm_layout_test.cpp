#include "core/cuda/gemm_layout.h"

#include <doctest/doctest.h>

#include <vector>

using namespace sg;
using namespace sg::cuda;

namespace {

// The element of a column-major operand as the product uses it.
double element(const ColumnMajor& o, const double* data, int64_t row, int64_t column) {
  if (o.transposed) std::swap(row, column);
  REQUIRE(row < o.rows);
  REQUIRE(column < o.columns);
  return data[column * o.stride + row];
}

}  // namespace

TEST_CASE("gemm: a column-major library makes the row-major product") {
  constexpr int64_t m = 3, n = 4, k = 5, gap = 2;
  for (const bool a_transposed : {false, true})
    for (const bool b_transposed : {false, true}) {
      CAPTURE(a_transposed);
      CAPTURE(b_transposed);
      const int64_t a_stride = (a_transposed ? m : k) + gap,
                    b_stride = (b_transposed ? k : n) + gap;
      std::vector<double> a(size_t(a_stride * (a_transposed ? k : m)));
      std::vector<double> b(size_t(b_stride * (b_transposed ? n : k)));
      for (size_t i = 0; i < a.size(); ++i) a[i] = double(i * i % 17);
      for (size_t i = 0; i < b.size(); ++i) b[i] = double(i * i % 13);
      const ColumnMajorProduct p = column_major({.m = m,
                                                 .n = n,
                                                 .k = k,
                                                 .a = {a.data(), a_stride, a_transposed},
                                                 .b = {b.data(), b_stride, b_transposed},
                                                 .c_stride = n + gap});
      REQUIRE(p.c.rows == n);
      REQUIRE(p.c.columns == m);
      REQUIRE(p.c.stride == n + gap);
      for (int64_t i = 0; i < m; ++i)
        for (int64_t j = 0; j < n; ++j) {
          double expected = 0, found = 0;
          for (int64_t s = 0; s < k; ++s) {
            expected += a[size_t(a_transposed ? s * a_stride + i : i * a_stride + s)] *
                        b[size_t(b_transposed ? j * b_stride + s : s * b_stride + j)];
            // The library's a is b, its b is a, and row i, column j of c is its row j, column i.
            found += element(p.a, b.data(), j, s) * element(p.b, a.data(), s, i);
          }
          CHECK(found == expected);
        }
    }
}
