// How cuBLASLt, which is column-major, sees a row-major matmul: memory of row-major (r, c) is that
// of column-major (c, r). So c^T (n, m) = b^T a^T is asked for, with the operands swapped.
#pragma once
#include "core/cuda/gemm.h"

namespace sg::cuda {

struct ColumnMajor {
  int64_t rows, columns, stride;  // of memory: `stride` elements from column to column
  bool transposed = false;        // the matmul uses the transpose of it
};
struct ColumnMajorProduct {
  ColumnMajor a, b, c;  // c = a b; a is the b of the row-major matmul, b its a
};

inline ColumnMajorProduct column_major(const Gemm& p) {
  const auto operand = [](const GemmOperand<void>& o, int64_t rows, int64_t columns) {
    return o.transposed ? ColumnMajor{rows, columns, o.stride, true}
                        : ColumnMajor{columns, rows, o.stride, false};
  };
  return {operand(p.b, p.k, p.n), operand(p.a, p.m, p.k), {p.n, p.m, p.c_stride}};
}

}  // namespace sg::cuda
