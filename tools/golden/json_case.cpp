#include "tools/golden/json_case.h"

#include <algorithm>
#include <cmath>

#include "tools/golden/golden_coco.h"

namespace sg::golden {
namespace {

constexpr JsonKind kKinds[] = {
    {"coco_masks", check_coco_masks},
    {"coco_mask_iou", check_coco_mask_iou},
    {"coco_box_iou", check_coco_box_iou},
    {"coco_eval", check_coco_eval},

};

constexpr size_t kBegin = 256;  // bytes, within which a golden file names its module

}  // namespace

const JsonKind* find_json_kind(std::string_view module) {
  const auto found = std::ranges::find(kKinds, module, &JsonKind::module);
  return found == std::end(kKinds) ? nullptr : found;
}

bool is_json_case(const std::filesystem::path& path) {
  if (path.extension() != ".json") return false;
  const InputFile file(path);
  std::string begin(std::min<size_t>(file.size(), kBegin), '\0');
  file.read(0, begin.data(), begin.size());
  return begin.find("\"module\"") != begin.npos;
}

JsonCase read_json_case(const std::filesystem::path& file) {
  return {file, parse_json(read_file(file), file.string(), ExitCode::failure)};
}

Row compare(std::string name, const std::vector<double>& found, const std::vector<double>& expected,
            double bound) {
  double worst = found.size() == expected.size() ? 0 : INFINITY;
  for (size_t i = 0; i < std::min(found.size(), expected.size()); ++i) {
    const double difference = std::abs(found[i] - expected[i]);
    worst = std::max(worst, std::isnan(difference) ? INFINITY : difference);
  }
  return {std::move(name), {.whole = worst, .worst_row = worst}, bound};
}

Row compare(std::string name, const std::string& found, const std::string& expected) {
  return {std::move(name), {.whole = found == expected ? 0. : 1.}, 0};
}

std::vector<Row> worst_first(std::vector<Row> rows) {
  std::ranges::stable_sort(rows, std::greater(), &Row::share_of_bound);
  return rows;
}

}  // namespace sg::golden
