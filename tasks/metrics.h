// Running means, accuracy, and the named scores of an evaluation.
#pragma once
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/scores.h"
#include "core/tensor.h"

namespace sg::tasks {

// A weighted mean that grows; NaN as long as it has nothing to be the mean of.
struct Mean {
  double sum = 0, weight = 0;
  void add(double value, double n = 1) { sum += value * n, weight += n; }
  double value() const { return weight > 0 ? sum / weight : NAN; }
};

// How many logits of a row (K) come before that of its label: the label is among the k largest
// where they are fewer than k. Of equal logits the first counts as the larger; where that of the
// label is not a number, all K do. Throws ExitCode::data on a label that is no class.
int64_t label_rank(std::span<const float> row, int64_t label);
// The same of each row of (B, K) with labels (B) i32.
std::vector<int64_t> label_ranks(const Tensor& logits, const Tensor& labels);

// Results of an evaluation, by name.
struct Scores {
  std::vector<std::pair<std::string, double>> values;
  double operator[](
      const std::string& name) const;  // throws ExitCode::failure where it is not there
  bool finite() const;                 // all of them
};

// In order of the schema: "Acc@1 83.200 Acc@5 96.500 loss 0.812"; "" where there are none.
std::string describe(const ScoreSchema& schema, const Scores& scores);

}  // namespace sg::tasks
