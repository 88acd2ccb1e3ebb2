// What sgeval does for results of detection in COCO's form, of any program; no model is needed.
#pragma once
#include <string>

#include "core/error.h"
#include "report/console.h"

namespace sg::tools {

struct CocoRequest {
  std::string annotations, results, iou_type = "bbox";
  bool json = false, per_class = false;
};
// Computes and prints.
ExitCode eval_coco(const CocoRequest& request, report::Console& console);

}  // namespace sg::tools
