// Binary cross entropy of each class by itself, against soft targets, as timm's BinaryCrossEntropy:
// -t log sigmoid(z) - (1 - t) log sigmoid(-z).
#pragma once
#include <optional>

#include "autograd/tape.h"
#include "core/slot.h"

namespace sg {

struct BinaryCrossEntropy {
  // Targets above it become 1, others 0; none: they stay as they are.
  std::optional<double> threshold;
  bool sum_classes = false;  // the sum over the classes, not their mean
};

// logits (B, K) f32, f64 or bf16; targets (B, K) in [0, 1], and the result (1), of the dtype
// acc_dtype(logits): the mean over the batch of the mean or the sum over the classes. Targets carry
// no gradient. A logit that is not finite makes the loss and its own gradient NaN.
Tensor binary_cross_entropy(const Tensor& logits, const Tensor& targets,
                            const BinaryCrossEntropy& settings = {});

namespace kernels {
// parts (B, 1, 1): `scale` times the sum over the classes of a sample; loss is their sum.
using BinaryCrossEntropyFwd = void(Stream&, In logits, In targets, const BinaryCrossEntropy&,
                                   double scale, Out parts, Out loss);
using BinaryCrossEntropyBwd = void(Stream&, In dloss, In logits, In targets,
                                   const BinaryCrossEntropy&, double scale, Grad dlogits);
constinit inline Slot<BinaryCrossEntropyFwd> binary_cross_entropy_fwd{"binary_cross_entropy.fwd"};
constinit inline Slot<BinaryCrossEntropyBwd> binary_cross_entropy_bwd{"binary_cross_entropy.bwd"};
}  // namespace kernels

}  // namespace sg
