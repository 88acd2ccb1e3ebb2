// Losses of a few rows of several maps: of the anchors, or the RoIs, that a detector samples.
#pragma once
#include <vector>

#include "autograd/tape.h"
#include "core/slot.h"
#include "ops/sampled_loss/rows.h"

namespace sg {

// Maps (B, ...) f32, f64 or bf16, 1 to 8 of one batch and dtype; a row is `width` elements of one,
// and rows are counted through an image, map after map, before the next image. Indices are i32; no
// row is taken twice. Results (1) are of the dtype acc_dtype(maps): the sum of the losses of the
// rows / `divisor`. A row that does not exist throws ExitCode::data on the CPU; a device cannot
// report it: the loss becomes NaN. Without rows the loss is 0. Gradients of other rows are 0.

// Binary cross entropy with logits of the elements `positive` (P), whose target is 1, and
// `negative` (N), whose target is 0.
Tensor sampled_binary_cross_entropy(const std::vector<Tensor>& logits, const Tensor& positive,
                                    const Tensor& negative, double divisor);

// Sum of |d - t| over rows of four elements: index (P), targets (P, 4) of the dtype of the result.
Tensor sampled_l1(const std::vector<Tensor>& deltas, const Tensor& index, const Tensor& targets,
                  double divisor);

namespace kernels {
using SampledBceFwd = void(Stream&, const std::vector<Tensor>& logits, const SampledRows&,
                           In positive, In negative, double divisor, Out loss);
using SampledBceBwd = void(Stream&, In dloss, const std::vector<Tensor>& logits, const SampledRows&,
                           In positive, In negative, double divisor,
                           const std::vector<Grad>& dlogits);
using SampledL1Fwd = void(Stream&, const std::vector<Tensor>& deltas, const SampledRows&, In index,
                          In targets, double divisor, Out loss);
using SampledL1Bwd = void(Stream&, In dloss, const std::vector<Tensor>& deltas, const SampledRows&,
                          In index, In targets, double divisor, const std::vector<Grad>& ddeltas);
// All but the rows is done: where a gradient is not added to what is there, it is zero before.
constinit inline Slot<SampledBceFwd> sampled_bce_fwd{"sampled_binary_cross_entropy.fwd"};
constinit inline Slot<SampledBceBwd> sampled_bce_bwd{"sampled_binary_cross_entropy.bwd"};
constinit inline Slot<SampledL1Fwd> sampled_l1_fwd{"sampled_l1.fwd"};
constinit inline Slot<SampledL1Bwd> sampled_l1_bwd{"sampled_l1.bwd"};
}  // namespace kernels

}  // namespace sg
