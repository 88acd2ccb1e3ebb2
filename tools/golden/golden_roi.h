// RoIAlign over one map and over a pyramid, and the targets of the mask head.
#pragma once
#include "tools/golden/case.h"

namespace sg::golden {

std::vector<Row> check_roi_align(const Case& c);
std::vector<Row> check_roi_extract(const Case& c);
std::vector<Row> check_mask_targets(const Case& c);

}  // namespace sg::golden
