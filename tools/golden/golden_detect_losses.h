// Losses of detection and their gradients.
#pragma once
#include "tools/golden/case.h"

namespace sg::golden {

std::vector<Row> check_rpn_loss(const Case& c);
std::vector<Row> check_roi_loss(const Case& c);
std::vector<Row> check_mask_loss(const Case& c);

}  // namespace sg::golden
