// Numbers that say how well it goes.
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/tensor.h"

namespace sg::tasks {

// A weighted mean that grows.
struct Mean {
  double sum = 0, weight = 0;
  void add(double value, double n = 1) { sum += value * n, weight += n; }
  double value() const { return weight > 0 ? sum / weight : 0; }
};

// How many rows of logits (B, K) have their label (B) i32 among the k largest. Of equal logits the
// first counts as the larger; a row whose logit of the label is not a number is no hit.
int64_t top_k_hits(const Tensor& logits, const Tensor& labels, int k);

// Results of an evaluation in the order in which they are shown, e.g. loss, top1, top5.
struct Scores {
  std::vector<std::pair<std::string, double>> values;
  double operator[](const std::string& name) const;
};

}  // namespace sg::tasks
