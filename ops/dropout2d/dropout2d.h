// Dropout of whole channels, as torch.nn.Dropout2d: y = x * keep[sample, channel].
#pragma once
#include "autograd/tape.h"
#include "core/rng.h"
#include "core/slot.h"

namespace sg {

// x (B, H, W, C) f32, f64 or bf16; keep (B, C) of the dtype acc_dtype(x), without gradient.
Tensor dropout2d(const Tensor& x, const Tensor& keep);

// Fills keep (B, C), f32 or f64 on the CPU: 0 with probability `rate`, else 1 / (1 - rate); drawn
// from (seed, step, layer), the channel, and the sample's place `first_sample + i` in the step.
void draw_dropout2d(double rate, uint64_t seed, uint64_t step, uint32_t layer, int64_t first_sample,
                    Out keep);

namespace kernels {
// y (+)= x * keep: both ways.
using Dropout2d = void(Stream&, In x, In keep, Grad y);
constinit inline Slot<Dropout2d> dropout2d{"dropout2d"};
}  // namespace kernels

}  // namespace sg
