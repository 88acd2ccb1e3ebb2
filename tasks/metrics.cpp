#include "tasks/metrics.h"

#include <algorithm>

#include "core/text.h"

namespace sg::tasks {

int64_t label_rank(std::span<const float> row, int64_t label) {
  const int64_t classes = int64_t(row.size());
  if (label < 0 || label >= classes)
    fail(ExitCode::data, "label {} of a sample: the model has {} classes", label, classes);
  const float own = row[size_t(label)];
  if (std::isnan(own)) return classes;
  int64_t before = 0;
  for (int64_t c = 0; c < classes; ++c)
    before += row[size_t(c)] > own || (row[size_t(c)] == own && c < label);
  return before;
}

std::vector<int64_t> label_ranks(const Tensor& logits, const Tensor& labels) {
  check_dims("label_ranks", "logits", logits, 2);
  check_shape("label_ranks", "labels", labels, {logits.dim(0)});
  const int64_t classes = logits.dim(1);
  std::vector<int64_t> ranks;
  for (int64_t i = 0; i < logits.dim(0); ++i)
    ranks.push_back(label_rank({logits.data<float>() + i * classes, size_t(classes)},
                               labels.data<int32_t>()[i]));
  return ranks;
}

double Scores::operator[](const std::string& name) const {
  for (const auto& [known, value] : values)
    if (known == name) return value;
  fail(ExitCode::failure, "scores: no '{}'", name);
}

bool Scores::finite() const {
  return std::ranges::all_of(values, [](const auto& v) { return std::isfinite(v.second); });
}

std::string describe(const ScoreSchema& schema, const Scores& scores) {
  std::string text;
  if (scores.values.empty()) return text;
  for (const ScoreInfo& s : schema)
    text += fmt::format("{}{} {}", text.empty() ? "" : " ", s.label, fixed(scores[s.name], 3));
  return text;
}

}  // namespace sg::tasks
