// Golden files of losses.
#pragma once
#include "tools/golden/case.h"

namespace sg::golden {

// u of a file's key, times the file's `logit_scale` (1 where it has none); on the CPU.
Tensor scaled_logits(const Case& c, const std::string& name, const Shape& shape);
Bounds loss_bounds(Dtype dtype);

std::vector<Row> check_segmentation_loss(const Case& c);

}  // namespace sg::golden
