// Feature pyramid and heads of segmentation: outputs, gradients, running statistics.
#pragma once
#include "tools/golden/case.h"

namespace sg::golden {

std::vector<Row> check_fpn(const Case& c);
std::vector<Row> check_semantic_fpn(const Case& c);
std::vector<Row> check_upernet(const Case& c);
std::vector<Row> check_fcn_head(const Case& c);

}  // namespace sg::golden
