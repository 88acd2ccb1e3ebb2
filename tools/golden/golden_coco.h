// Golden kinds of COCO's masks, boxes and evaluation.
#pragma once
#include "tools/golden/json_case.h"

namespace sg::golden {

std::vector<Row> check_coco_masks(const JsonCase& c);
std::vector<Row> check_coco_mask_iou(const JsonCase& c);
std::vector<Row> check_coco_box_iou(const JsonCase& c);
std::vector<Row> check_coco_eval(const JsonCase& c);
std::vector<Row> check_mask_paste(const Case& c);

}  // namespace sg::golden
