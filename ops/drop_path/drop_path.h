// Residual addition with stochastic depth: y = x + keep[sample] * branch.
#pragma once
#include "autograd/tape.h"
#include "core/rng.h"
#include "core/slot.h"

namespace sg {

// x, branch (B, ...) of one shape, f32, f64 or bf16; keep (B) of the dtype acc_dtype(x), without
// gradient, or undefined for a plain sum. Backward hands dy on to x without a copy.
Tensor drop_path_add(const Tensor& x, const Tensor& branch, const Tensor& keep);

// Fills keep (B), f32 or f64 on the CPU: 0 with probability `rate`, else 1 / (1 - rate); drawn from
// (seed, step, layer) and the sample's place `first_sample + i` in the global batch.
void draw_drop_path(double rate, uint64_t seed, uint64_t step, uint32_t layer, int64_t first_sample,
                    Out keep);

namespace kernels {
using DropPathFwd = void(Stream&, In x, In branch, In keep, Out y);
// dbranch (+)= keep * dy; called only with a keep.
using DropPathBwd = void(Stream&, In dy, In keep, Grad dbranch);
constinit inline Slot<DropPathFwd> drop_path_fwd{"drop_path.fwd"};
constinit inline Slot<DropPathBwd> drop_path_bwd{"drop_path.bwd"};
}  // namespace kernels

}  // namespace sg
