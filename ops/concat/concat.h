// Tensors side by side along any dimension, as torch.cat.
#pragma once
#include <vector>

#include "autograd/tape.h"

namespace sg {

// Tensors of one dtype (f32, f64 or bf16, on cuda f32 or bf16) and device, whose shapes are equal
// but for `dimension` (negative: counted from the last); at least one.
Tensor concat(const std::vector<Tensor>& parts, int dimension);

}  // namespace sg
