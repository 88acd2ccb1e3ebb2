// Means over a grid of bins, as torch.nn.AdaptiveAvgPool2d: bin i of n covers rows
// [floor(i H / n), ceil((i + 1) H / n)), so bins of maps smaller than n overlap.
#pragma once
#include "autograd/tape.h"
#include "core/slot.h"

namespace sg {

// x (B, H, W, C) f32, f64 or bf16 -> (B, side, side, C).
Tensor adaptive_avg_pool(const Tensor& x, int64_t side);

}  // namespace sg
