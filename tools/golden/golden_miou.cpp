#include "tools/golden/golden_miou.h"

#include <cmath>

#include "tasks/pixel_confusion.h"

namespace sg::golden {
namespace {

constexpr double kBound = 1e-12;

// A score is not a number where nothing counts: the file's must be none there, and elsewhere one.
void add_scores(Comparison& comparison, const Case& c, const std::string& name,
                const std::vector<double>& found) {
  const Tensor expected = comparison.given(name);
  check(expected.numel() == int64_t(found.size()), "{}: {}: expected {} numbers, found {}",
        c.file.path().string(), name, found.size(), expected.numel());
  const auto values = to_vector<double>(expected);
  std::vector<double> a, b;
  for (size_t i = 0; i < found.size(); ++i)
    if (!(std::isnan(found[i]) && std::isnan(values[i])))
      a.push_back(found[i]), b.push_back(values[i]);
  const auto n = int64_t(a.size());
  comparison.add_row({name, relative_error_of(from_vector(a, {n}), from_vector(b, {n})), kBound});
}

}  // namespace

std::vector<Row> check_miou(const Case& c) {
  const int64_t classes = c.number("classes");
  tasks::PixelConfusion confusion(classes, int(c.number("ignore")));
  Comparison comparison(c, {kBound, kBound});
  for (int64_t i = 0; i < c.number("images"); ++i) {
    const Tensor label = comparison.given(fmt::format("label.{}", i));
    const Tensor prediction = comparison.given(fmt::format("prediction.{}", i));
    confusion.add(label.span<uint8_t>(), prediction.span<uint8_t>());
    const std::string raw = fmt::format("raw_label.{}", i);
    if (!c.file.contains(raw)) continue;
    Tensor shifted = comparison.given(raw).clone();
    for (uint8_t& v : shifted.span<uint8_t>()) v = uint8_t(v == 0 || v == 255 ? 255 : v - 1);
    comparison.add_exact(fmt::format("label.{}", i), shifted);
  }
  std::vector<double> right, predicted, labelled, iou, accuracy;
  for (int64_t k = 0; k < classes; ++k) {
    const tasks::ClassPixels pixels = confusion.of(k);
    right.push_back(double(pixels.right)), predicted.push_back(double(pixels.predicted));
    labelled.push_back(double(pixels.labelled));
    iou.push_back(pixels.iou()), accuracy.push_back(pixels.accuracy());
  }
  const tasks::PixelScores scores = confusion.scores();
  comparison.add_exact("intersection", from_vector(right, {classes}));
  comparison.add_exact("prediction_area", from_vector(predicted, {classes}));
  comparison.add_exact("label_area", from_vector(labelled, {classes}));
  add_scores(comparison, c, "iou", iou);
  add_scores(comparison, c, "accuracy", accuracy);
  add_scores(comparison, c, "summary",
             {scores.all_accuracy, scores.mean_accuracy, scores.mean_iou});
  return comparison.finish();
}

}  // namespace sg::golden
