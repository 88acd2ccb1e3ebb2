#include "ops/binary_cross_entropy/binary_cross_entropy.h"

#include "core/profile.h"

namespace sg {

Tensor binary_cross_entropy(const Tensor& logits, const Tensor& targets,
                            const BinaryCrossEntropy& settings) {
  check_dims("binary_cross_entropy", "logits", logits, 2);
  check(logits.numel() > 0, "binary_cross_entropy: logits: {} is empty", logits.shape().str());
  check_shape("binary_cross_entropy", "targets", targets, logits.shape());
  check_acc_dtype("binary_cross_entropy", "targets", targets, logits);
  autograd::refuse_grad("binary_cross_entropy: targets", {targets});

  const Dtype dtype = acc_dtype(logits.dtype());
  const double n = double(logits.numel()), bytes = double(logits.bytes() + targets.bytes());
  const double scale = 1 / (settings.sum_classes ? double(logits.dim(0)) : n);
  Tensor parts = empty({logits.dim(0), 1, 1}, dtype, logits.device());
  Tensor loss = empty({1}, dtype, logits.device());
  {
    const profile::OpScope scope("binary_cross_entropy.fwd", 8 * n, bytes);
    kernels::binary_cross_entropy_fwd(logits.stream(), logits, targets, settings, scale, parts,
                                      loss);
  }
  autograd::record("binary_cross_entropy", {&loss}, {logits}, [=](autograd::Backward& g) {
    const profile::OpScope scope("binary_cross_entropy.bwd", 8 * n, bytes + double(logits.bytes()));
    kernels::binary_cross_entropy_bwd(logits.stream(), g.dy(), logits, targets, settings, scale,
                                      g.grad(0));
  });
  return loss;
}

}  // namespace sg
