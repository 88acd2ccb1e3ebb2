// What sgeval does for results of detection in COCO's form, of any program; no model is needed.
#pragma once
#include <nlohmann/json.hpp>
#include <string>

#include "core/error.h"
#include "report/console.h"
#include "tasks/coco_evaluation.h"

namespace sg::tools {

struct CocoRequest {
  std::string annotations, results, iou_type = "bbox";
  bool json = false, per_class = false;
};
// The twelve numbers of pycocotools in its lines, and with `per_class` a table.
void print_coco_scores(const tasks::CocoScores& scores, const data::CocoAnnotations& truth,
                       bool per_class);
// The same by name: {"AP": ..., "AP50": ..., "per_class": [...]}, null where there is no object.
nlohmann::json coco_scores_json(const tasks::CocoScores& scores, const data::CocoAnnotations& truth,
                                bool per_class);
// Computes and prints.
ExitCode eval_coco(const CocoRequest& request, report::Console& console);

}  // namespace sg::tools
