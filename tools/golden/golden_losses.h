// Golden files of losses.
#pragma once
#include "tools/golden/case.h"

namespace sg::golden {

std::vector<Row> check_segmentation_loss(const Case& c);

}  // namespace sg::golden
