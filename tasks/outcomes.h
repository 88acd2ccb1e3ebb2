// What a classifier made of each image of a dataset, and what follows from it: the confusion
// matrix, the accuracy by class, and the mistakes.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/findings.h"
#include "core/tensor.h"
#include "data/dataset.h"
#include "data/transforms.h"

namespace sg::tasks {

struct Outcome {
  int64_t index;       // in the dataset
  int64_t label;       // -1: unknown
  int64_t predicted;   // the most probable class, of equal ones the first
  int64_t rank;        // of the label (label_ranks()), 0 where it is predicted; -1: unknown
  double probability;  // of the predicted class
  double loss;         // cross entropy; NaN where the label is unknown
  bool right() const { return predicted == label; }
  bool in_top(int64_t k) const { return rank >= 0 && rank < k; }
};

// The outcomes of a batch: logits f32 (B, K) and labels i32 (B) on the CPU, -1 where unknown.
std::vector<Outcome> outcomes_of(const std::vector<int64_t>& indices, const Tensor& logits,
                                 const Tensor& labels);

// Images whose label is among the k most probable classes.
int64_t top_k_hits(const std::vector<Outcome>& outcomes, int64_t k);

// Rows are labels, columns what was predicted. Throws ExitCode::usage beyond this many classes.
inline constexpr int64_t kMaxConfusionClasses = 2000;
Matrix confusion_matrix(const std::vector<Outcome>& outcomes, const std::vector<std::string>& names,
                        int64_t classes);

// Images of one label.
struct LabelCounts {
  int64_t images = 0, right = 0;
  std::map<int64_t, int64_t> taken_for;  // wrongly: class and how often
};
std::map<int64_t, LabelCounts> counts_by_label(const std::vector<Outcome>& outcomes);

// One row per class that has images: how many, the accuracy, and the class that it is most often
// confused with.
Table accuracy_by_class(const std::vector<Outcome>& outcomes,
                        const std::vector<std::string>& names);

// The wrong ones with the highest loss, and those with the highest probability of a wrong class; at
// most `count` each, as evaluation sees them. Images that cannot be read are left out.
std::vector<Gallery> mistakes(const std::vector<Outcome>& outcomes, const data::Dataset& dataset,
                              const data::TransformConfig& transform, size_t count = 12);

}  // namespace sg::tasks
