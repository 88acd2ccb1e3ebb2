#pragma once
#include <cstdint>

namespace sg {

// A row-major matrix as a matmul uses it: `stride` is the distance in elements between rows of the
// memory, which holds the transpose of the operand where `transposed`. T is void where the dtype is
// known only at run time.
template <class T>
struct GemmOperand {
  const T* data;
  int64_t stride;
  bool transposed = false;
};

}  // namespace sg
