#include "tools/common/eval_coco.h"

#include <fmt/core.h>

#include "core/text.h"
#include "tools/common/table.h"

namespace sg::tools {
namespace {

using tasks::CocoScores;

struct StatInfo {
  CocoScores::Stat stat;
  const char *name, *iou, *area;
  int detections;
};
constexpr StatInfo kStats[] = {
    {CocoScores::AP, "AP", "0.50:0.95", "all", 100},
    {CocoScores::AP50, "AP50", "0.50", "all", 100},
    {CocoScores::AP75, "AP75", "0.75", "all", 100},
    {CocoScores::AP_small, "APs", "0.50:0.95", "small", 100},
    {CocoScores::AP_medium, "APm", "0.50:0.95", "medium", 100},
    {CocoScores::AP_large, "APl", "0.50:0.95", "large", 100},
    {CocoScores::AR1, "AR1", "0.50:0.95", "all", 1},
    {CocoScores::AR10, "AR10", "0.50:0.95", "all", 10},
    {CocoScores::AR100, "AR100", "0.50:0.95", "all", 100},
    {CocoScores::AR_small, "ARs", "0.50:0.95", "small", 100},
    {CocoScores::AR_medium, "ARm", "0.50:0.95", "medium", 100},
    {CocoScores::AR_large, "ARl", "0.50:0.95", "large", 100},
};

// The line of pycocotools.
std::string line_of(const StatInfo& info, double value) {
  const bool precision = info.name[1] == 'P';
  return fmt::format(" {:<18} {} @[ IoU={:<9} | area={:>6} | maxDets={:>3} ] = {:0.3f}",
                     precision ? "Average Precision" : "Average Recall",
                     precision ? "(AP)" : "(AR)", info.iou, info.area, info.detections, value);
}

Table table_of(const CocoScores& scores, const data::CocoAnnotations& truth) {
  Table table;
  table.columns = {"class", "AP", "AP50", "AP75", "id"};
  for (size_t c = 0; c < scores.classes.size(); ++c) {
    const auto& [ap, ap50, ap75] = scores.classes[c];
    table.rows.push_back({truth.class_names()[c], fixed(ap, 3), fixed(ap50, 3), fixed(ap75, 3),
                          std::to_string(truth.category_ids()[c])});
  }
  return table;
}

nlohmann::json number(double score) { return score < 0 ? nlohmann::json() : nlohmann::json(score); }

}  // namespace

void print_coco_scores(const CocoScores& scores, const data::CocoAnnotations& truth,
                       bool per_class) {
  for (const StatInfo& info : kStats) fmt::print("{}\n", line_of(info, scores[info.stat]));
  if (per_class) print(table_of(scores, truth));
}

nlohmann::json coco_scores_json(const CocoScores& scores, const data::CocoAnnotations& truth,
                                bool per_class) {
  nlohmann::json j = nlohmann::json::object();
  for (const StatInfo& info : kStats) j[info.name] = number(scores[info.stat]);
  if (!per_class) return j;
  j["per_class"] = nlohmann::json::array();
  for (size_t c = 0; c < scores.classes.size(); ++c) {
    const auto& [ap, ap50, ap75] = scores.classes[c];
    j["per_class"].push_back({{"class", truth.class_names()[c]},
                              {"id", truth.category_ids()[c]},
                              {"AP", number(ap)},
                              {"AP50", number(ap50)},
                              {"AP75", number(ap75)}});
  }
  return j;
}

ExitCode eval_coco(const CocoRequest& request, report::Console& console) {
  const bool masks = request.iou_type == "segm";
  using Masks = data::CocoAnnotations::Masks;
  const data::CocoAnnotations truth(request.annotations, masks ? Masks::keep : Masks::leave_out);
  const data::CocoResults results(request.results, truth, masks);
  if (results.left_out())
    console.warning(
        fmt::format("{} results are of categories that {} does not have; they are left out",
                    results.left_out(), truth.file()));
  console.line(fmt::format("{} results, {} images, {} objects of {} classes", results.size(),
                           truth.size(), truth.objects(), truth.class_names().size()));
  const CocoScores scores = tasks::evaluate_results(
      truth, results, masks ? tasks::CocoIou::masks : tasks::CocoIou::boxes);
  if (request.json) {
    nlohmann::json j{{"iou_type", request.iou_type},   {"images", truth.size()},
                     {"objects", truth.objects()},     {"results", results.size()},
                     {"left_out", results.left_out()}, {"version", SG_VERSION}};
    j.update(coco_scores_json(scores, truth, request.per_class));
    fmt::print("{}\n", j.dump(2));
    return ExitCode::ok;
  }
  print_coco_scores(scores, truth, request.per_class);
  return ExitCode::ok;
}

}  // namespace sg::tools
