#include "tasks/outcomes.h"

#include <algorithm>
#include <cmath>

#include "core/text.h"
#include "data/class_names.h"
#include "data/png_write.h"
#include "tasks/metrics.h"

namespace sg::tasks {
namespace {

using data::class_name;

std::string percent(int64_t part, int64_t whole) {
  return fmt::format("{:.1f} %", 100 * double(part) / double(whole));
}

Gallery gallery(std::string title, std::string text, std::vector<Outcome> wrong, size_t count,
                const data::Dataset& dataset, const data::TransformConfig& config) {
  Gallery g{.title = std::move(title), .text = std::move(text), .items = {}};
  data::Transform transform(config);
  std::vector<uint8_t> buffer;
  data::Image image;
  image.reset(config.img_size.height, config.img_size.width);
  for (const Outcome& o : wrong) {
    if (g.items.size() == count) break;
    try {
      transform.eval(*dataset.open(o.index, buffer), image.pixels.data());
    } catch (const Error&) {
      continue;  // it was there a moment ago
    }
    const auto png = data::encode_png(image);
    const std::string is = class_name(dataset.class_names(), o.label);
    const std::string name = escape_name(dataset.name(o.index));
    g.items.push_back(
        {.png = {png.begin(), png.end()},
         .description = name,
         .headline = class_name(dataset.class_names(), o.predicted),
         .note = fmt::format("\nis {}\n{:.1f} %, loss {:.2f}\n{}", is, 100 * o.probability, o.loss,
                             name.substr(name.find_last_of('/') + 1)),
         .good = false});
  }
  return g;
}

}  // namespace

std::vector<Outcome> outcomes_of(const std::vector<int64_t>& indices, const Tensor& logits,
                                 const Tensor& labels) {
  const int64_t classes = logits.dim(1);
  check(int64_t(indices.size()) == logits.dim(0), "outcomes: {} images, {} rows of logits",
        indices.size(), logits.dim(0));
  std::vector<Outcome> all;
  for (int64_t i = 0; i < logits.dim(0); ++i) {
    const std::span row(logits.data<float>() + i * classes, size_t(classes));
    const int64_t label = labels.data<int32_t>()[i];
    const auto largest = std::ranges::max_element(row);
    double sum = 0;
    for (const float v : row) sum += std::exp(double(v) - *largest);
    Outcome o{indices[size_t(i)], label, largest - row.begin(), -1, 1 / sum, NAN};
    if (label >= 0) {
      o.rank = label_rank(row, label);
      o.loss = std::log(sum) + *largest - double(row[size_t(label)]);
    }
    all.push_back(o);
  }
  return all;
}

int64_t top_k_hits(const std::vector<Outcome>& outcomes, int64_t k) {
  return std::ranges::count_if(outcomes, [&](const Outcome& o) { return o.in_top(k); });
}

Matrix confusion_matrix(const std::vector<Outcome>& outcomes, const std::vector<std::string>& names,
                        int64_t classes) {
  if (classes > kMaxConfusionClasses)
    fail(ExitCode::usage, "a confusion matrix: expected at most {} classes, found {}",
         kMaxConfusionClasses, classes);
  Matrix m{.title = "Confusion",
           .text =
               "How many images of each class (row) were taken for which (column). The diagonal "
               "is right.",
           .row_axis = "is",
           .column_axis = "taken for",
           .names = {},
           .counts = std::vector<int64_t>(size_t(classes * classes))};
  for (int64_t c = 0; c < classes; ++c) m.names.push_back(class_name(names, c));
  for (const Outcome& o : outcomes) ++m.counts[size_t(o.label * classes + o.predicted)];
  return m;
}

std::map<int64_t, LabelCounts> counts_by_label(const std::vector<Outcome>& outcomes) {
  std::map<int64_t, LabelCounts> counts;
  for (const Outcome& o : outcomes) {
    LabelCounts& c = counts[o.label];
    ++c.images, c.right += o.right();
    if (!o.right()) ++c.taken_for[o.predicted];
  }
  return counts;
}

Table accuracy_by_class(const std::vector<Outcome>& outcomes,
                        const std::vector<std::string>& names) {
  Table t{.title = "Accuracy by class",
          .text = "Classes of the validation set, and what each is mostly mistaken for.",
          .columns = {"class", "images", "right", "mostly mistaken for"},
          .rows = {}};
  for (const auto& [label, c] : counts_by_label(outcomes)) {
    const auto most =
        std::ranges::max_element(c.taken_for, {}, [](const auto& entry) { return entry.second; });
    t.rows.push_back({class_name(names, label), std::to_string(c.images),
                      percent(c.right, c.images),
                      most == c.taken_for.end()
                          ? ""
                          : fmt::format("{} ({})", class_name(names, most->first), most->second)});
  }
  return t;
}

std::vector<Gallery> mistakes(const std::vector<Outcome>& outcomes, const data::Dataset& dataset,
                              const data::TransformConfig& transform, size_t count) {
  std::vector<Outcome> wrong;
  std::ranges::copy_if(outcomes, std::back_inserter(wrong), [](const Outcome& o) {
    return !o.right() && std::isfinite(o.loss) && std::isfinite(o.probability);
  });
  std::vector<Gallery> galleries;
  if (wrong.empty()) return galleries;
  std::ranges::stable_sort(wrong, std::greater(), &Outcome::loss);
  galleries.push_back(gallery("Worst mistakes", "Where the right class seemed least probable.",
                              wrong, count, dataset, transform));
  std::ranges::stable_sort(wrong, std::greater(), &Outcome::probability);
  galleries.push_back(gallery("Most confident mistakes",
                              "Where a wrong class seemed most probable.", wrong, count, dataset,
                              transform));
  return galleries;
}

}  // namespace sg::tasks
