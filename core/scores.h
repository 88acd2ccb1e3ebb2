// What an evaluation measures, and how it is shown.
#pragma once
#include <algorithm>
#include <string>
#include <vector>

namespace sg {

struct ScoreInfo {
  std::string name;     // in files: "top1"
  std::string label;    // on the console: "Acc@1"
  std::string title;    // in the report: "top-1"
  std::string chart{};  // title of its chart in the report; it has none where empty
  std::string unit{};   // "%"
  int digits = 2;       // after the point, in the report
  bool more_is_better = true;
};

// In order of importance; the first one chooses the best checkpoint. "loss", where it is among
// them, is that of the validation set, and stands beside that of training.
using ScoreSchema = std::vector<ScoreInfo>;

// In the order of columns: the loss first.
inline ScoreSchema columns(ScoreSchema schema) {
  std::stable_partition(schema.begin(), schema.end(),
                        [](const ScoreInfo& s) { return s.name == "loss"; });
  return schema;
}

// The one rule for "best": strictly, so that of equal scores the first stays the best.
inline bool improves(const ScoreInfo& info, double score, double best) {
  return info.more_is_better ? score > best : score < best;
}

}  // namespace sg
