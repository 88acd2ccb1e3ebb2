#include "ops/pixel_cross_entropy/pixel_cross_entropy.h"

#include "core/profile.h"
#include "ops/bilinear_resize/axis.h"

namespace sg {

Tensor pixel_cross_entropy(const Tensor& logits, const Tensor& labels, int ignore) {
  check_dims("pixel_cross_entropy", "logits", logits, 4);
  check_dims("pixel_cross_entropy", "labels", labels, 3);
  check(labels.dtype() == Dtype::u8 && labels.device() == logits.device(),
        "pixel_cross_entropy: labels: expected u8 on {}, found {} on {}", str(logits.device()),
        name_of(labels.dtype()), str(labels.device()));
  check(labels.dim(0) == logits.dim(0), "pixel_cross_entropy: labels: {} images for {} of logits",
        labels.dim(0), logits.dim(0));
  check(logits.numel() > 0 && labels.numel() > 0,
        "pixel_cross_entropy: logits {}, labels {}: nothing to compare", logits.shape().str(),
        labels.shape().str());
  check(logits.dim(3) <= 255, "pixel_cross_entropy: logits: expected at most 255 classes, found {}",
        logits.dim(3));
  for (const int64_t side : {logits.dim(1), logits.dim(2), labels.dim(1), labels.dim(2)})
    check(side <= kMaxResizeSide, "pixel_cross_entropy: expected sides of at most {}, found {}",
          kMaxResizeSide, side);

  Tensor loss = empty({1}, acc_dtype(logits.dtype()), logits.device()), softmax;
  if (autograd::recording({logits})) {
    softmax =
        empty({labels.dim(0), labels.dim(1), labels.dim(2), 2}, loss.dtype(), logits.device());
  }
  // A resized logit is 4 operations, an exp about 20.
  const double n = double(labels.numel()) * double(logits.dim(3));
  const double bytes = double(logits.bytes() + labels.bytes() + (softmax ? softmax.bytes() : 0));
  {
    const profile::OpScope scope("pixel_cross_entropy.fwd", 25 * n, bytes);
    kernels::pixel_cross_entropy_fwd(logits.stream(), logits, labels, ignore, softmax, loss);
  }
  autograd::record("pixel_cross_entropy", {&loss}, {logits}, [=](autograd::Backward& g) {
    const profile::OpScope scope("pixel_cross_entropy.bwd", 30 * n, bytes + double(logits.bytes()));
    kernels::pixel_cross_entropy_bwd(logits.stream(), g.dy(), logits, labels, ignore, softmax,
                                     g.grad(0));
  });
  return loss;
}

}  // namespace sg
