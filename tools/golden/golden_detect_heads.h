// Heads of detection: outputs and gradients.
#pragma once
#include "tools/golden/case.h"

namespace sg::golden {

std::vector<Row> check_rpn_head(const Case& c);
std::vector<Row> check_box_head(const Case& c);
std::vector<Row> check_mask_head(const Case& c);

}  // namespace sg::golden
