// A sum whose bits depend on its terms and their order alone: terms are added in pairs, pairs in
// pairs, and so on. Terms 0 to n - 1 are so one term of the sum of more where n is a power of two.
#pragma once
#include <cstdint>
#include <vector>

#include "core/tensor.h"

namespace sg::nn {

class TreeSum {
 public:
  // Of `terms` tensors like `term`.
  TreeSum(const Tensor& term, int64_t terms);
  // Term i, after term i - 1; `term` is overwritten. After the last one it is the sum.
  void add(int64_t i, Out term);

 private:
  int64_t terms_;
  std::vector<Tensor> levels_;  // level k: a sum of 2^k terms that waits for the next such
};

}  // namespace sg::nn
