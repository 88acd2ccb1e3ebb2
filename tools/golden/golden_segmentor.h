// A whole segmentor in training, as tools/bench/torch_segmentation.py --write has it from PyTorch:
// logits of its heads, gradients of all parameters by norm and probe, running statistics.
#pragma once
#include "tools/golden/case.h"

namespace sg::golden {

// In f64 alone: below, rounding would rank tokens in another order.
std::vector<Row> check_segmentor(const Case& c);

}  // namespace sg::golden
