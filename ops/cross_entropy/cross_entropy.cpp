#include "ops/cross_entropy/cross_entropy.h"

#include "core/profile.h"

namespace sg {

CrossEntropy soft_cross_entropy(const Tensor& logits, const Tensor& targets) {
  check_dims("soft_cross_entropy", "logits", logits, 2);
  check(logits.numel() > 0, "soft_cross_entropy: logits: {} is empty", logits.shape().str());
  check_shape("soft_cross_entropy", "targets", targets, logits.shape());
  check_acc_dtype("soft_cross_entropy", "targets", targets, logits);
  autograd::refuse_grad("soft_cross_entropy: targets", {targets});

  const int64_t batch = logits.dim(0);
  const double n = double(logits.numel()), bytes = double(logits.bytes());
  const Dtype dtype = acc_dtype(logits.dtype());
  Tensor loss = empty({1}, dtype, logits.device()), softmax;
  Tensor per_sample = empty({batch}, dtype, logits.device());
  if (autograd::recording({logits})) softmax = empty({batch, 2}, dtype, logits.device());
  {
    const profile::OpScope scope("cross_entropy.fwd", 7 * n, 2 * bytes);
    kernels::cross_entropy_fwd(logits.stream(), logits, targets, per_sample, softmax, loss);
  }
  autograd::record("soft_cross_entropy", {&loss}, {logits}, [=](autograd::Backward& g) {
    const profile::OpScope scope("cross_entropy.bwd", 6 * n, 3 * bytes);
    kernels::cross_entropy_bwd(logits.stream(), g.dy(), logits, targets, softmax, g.grad(0));
  });
  return {loss, per_sample};
}

Tensor smooth_one_hot(const Tensor& labels, int64_t classes, double smoothing, Dtype dtype,
                      const Tensor& changes, const Tensor& weights) {
  check_dims("smooth_one_hot", "labels", labels, 1);
  check(labels.dtype() == Dtype::i32, "smooth_one_hot: labels: expected i32, found {}",
        name_of(labels.dtype()));
  check(classes >= 1, "smooth_one_hot: classes: expected at least 1, found {}", classes);
  check(smoothing >= 0 && smoothing <= 1, "smooth_one_hot: smoothing: expected 0 to 1, found {}",
        smoothing);
  if (changes) check_changes("smooth_one_hot", changes, labels.dim(0), labels.device());
  if (weights) {
    check_shape("smooth_one_hot", "weights", weights, {classes});
    check(weights.dtype() == dtype && weights.device() == labels.device(),
          "smooth_one_hot: weights: expected {} on {}, found {} on {}", name_of(dtype),
          str(labels.device()), name_of(weights.dtype()), str(weights.device()));
    autograd::refuse_grad("smooth_one_hot: weights", {weights});
  }
  Tensor targets = empty({labels.dim(0), classes}, dtype, labels.device());
  const profile::OpScope scope("smooth_one_hot", 0, double(targets.bytes()));
  kernels::smooth_one_hot(labels.stream(), labels, changes, weights, smoothing, targets);
  return targets;
}

}  // namespace sg
