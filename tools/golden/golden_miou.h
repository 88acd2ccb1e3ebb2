// Scores of semantic segmentation: counts, IoU and accuracy by class, and the means.
#pragma once
#include "tools/golden/case.h"

namespace sg::golden {

std::vector<Row> check_miou(const Case& c);

}  // namespace sg::golden
