// Golden files of what a detector decides about boxes. In f64 whatever the dtype, because rounding
// decides otherwise, but for the coder.
#pragma once
#include "tools/golden/case.h"

namespace sg::golden {

std::vector<Row> check_anchors(const Case& c);
std::vector<Row> check_box_coder(const Case& c);
std::vector<Row> check_box_iou(const Case& c);
std::vector<Row> check_nms(const Case& c);
std::vector<Row> check_assigner(const Case& c);
std::vector<Row> check_roi_levels(const Case& c);
std::vector<Row> check_rpn_proposals(const Case& c);
std::vector<Row> check_detections(const Case& c);

}  // namespace sg::golden
