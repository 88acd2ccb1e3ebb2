// Golden files of the operations that resize maps (golden/dense/resize).
#pragma once
#include "tools/golden/case.h"

namespace sg::golden {

std::vector<Row> check_interpolate(const Case& c);
std::vector<Row> check_adaptive_pool(const Case& c);

}  // namespace sg::golden
