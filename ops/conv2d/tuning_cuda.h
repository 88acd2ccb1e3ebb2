// Limits that decide how convolutions on GPUs split their work. Tests lower them.
#pragma once
#include <cstdint>

namespace sg::conv2d_cuda {

struct Tuning {
  // im2col: the matrix has at most so many bytes, or holds one image.
  int64_t matrix_bytes = int64_t{128} << 20;
  // Blocks are started for so many multiprocessors and take tile after tile. Not the number of the
  // GPU at hand: how sums are split, and so the bits of a result, would depend on it.
  int multiprocessors = 132;
};
constinit inline Tuning tuning;

}  // namespace sg::conv2d_cuda
