// Nearest resizing of maps, as torch.nn.functional.interpolate (mode "nearest"): output position i
// is input position floor(i in / out), in float32 as torch computes it.
#pragma once
#include "autograd/tape.h"
#include "core/slot.h"

namespace sg {

// x (B, H, W, C) f32, f64 or bf16 -> (B, height, width, C); `base`, of that shape, is added, as the
// top-down path of a feature pyramid does.
Tensor nearest_resize(const Tensor& x, int64_t height, int64_t width, const Tensor& base = {});

}  // namespace sg
