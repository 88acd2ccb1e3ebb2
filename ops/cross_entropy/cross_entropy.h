// Cross entropy against soft targets: the mean over the batch of -sum_k t[k] log_softmax(z)[k].
#pragma once
#include "autograd/tape.h"
#include "core/slot.h"
#include "ops/normalize_images/mix_erase.h"

namespace sg {

struct CrossEntropy {
  Tensor loss;        // (1), on the tape
  Tensor per_sample;  // (B), detached
};

// logits (B, K) f32, f64 or bf16; targets (B, K), and the results, of the dtype acc_dtype(logits).
// Targets carry no gradient and need not sum to 1.
CrossEntropy soft_cross_entropy(const Tensor& logits, const Tensor& targets);

// Targets (B, classes) of labels (B) i32 in [0, classes): off = smoothing / classes,
// on = off + 1 - smoothing.
// changes: undefined, or what pack() returned, on the device of the labels: the targets of mixed
// images are lambda * own + (1 - lambda) * partner's, with lambda = MixErase::label_lambda.
// weights: undefined, or (classes) of the dtype, above 0, on the device of the labels: the targets
// of class c times weights[c] B / W, where W is the sum over the batch of the weights of the labels
// (of mixed images lambda * own + (1 - lambda) * partner's). So the mean of soft_cross_entropy()
// becomes the weighted mean of torch.nn.CrossEntropyLoss(weight, label_smoothing).
// A label out of range, or a partner outside the batch, throws ExitCode::data on the CPU. A device
// cannot report it: it makes the row NaN, thus the loss, and training skips such a step and says
// so. A caller that has the labels on the host checks them there, before they are copied.
Tensor smooth_one_hot(const Tensor& labels, int64_t classes, double smoothing,
                      Dtype dtype = Dtype::f32, const Tensor& changes = {},
                      const Tensor& weights = {});

namespace kernels {
// softmax (B, 2): the largest logit z* and the sum of exp(z - z*), kept for backward (their
// log-sum-exp would be rounded to the size of z*), or undefined. loss is the mean of per_sample.
using CrossEntropyFwd = void(Stream&, In logits, In targets, Out per_sample, Out softmax, Out loss);
using CrossEntropyBwd = void(Stream&, In dloss, In logits, In targets, In softmax, Grad dlogits);
using SmoothOneHot = void(Stream&, In labels, In changes, In weights, double smoothing,
                          Out targets);
constinit inline Slot<CrossEntropyFwd> cross_entropy_fwd{"cross_entropy.fwd"};
constinit inline Slot<CrossEntropyBwd> cross_entropy_bwd{"cross_entropy.bwd"};
constinit inline Slot<SmoothOneHot> smooth_one_hot{"smooth_one_hot"};
}  // namespace kernels

}  // namespace sg
