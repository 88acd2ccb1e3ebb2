#include "nn/tree_sum.h"

#include <bit>

#include "autograd/add_into.h"

namespace sg::nn {

TreeSum::TreeSum(const Tensor& term, int64_t terms) : terms_(terms) {
  check(terms >= 1, "tree sum: expected at least one term, found {}", terms);
  for (int64_t n = terms - 1; n > 0; n /= 2) levels_.push_back(empty_like(term));
}

void TreeSum::add(int64_t i, Out term) {
  const bool last = i + 1 == terms_;
  size_t level = 0;
  for (; level < levels_.size() && (last || (i >> level & 1)); ++level)
    if (i >> level & 1) add_into(levels_[level], term);
  if (!last) levels_[level].copy_(term);
}

}  // namespace sg::nn
