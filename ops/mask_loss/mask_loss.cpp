#include "ops/mask_loss/mask_loss.h"

#include <algorithm>

#include "core/profile.h"

namespace sg {

Tensor mask_loss(const Tensor& logits, const Tensor& labels, const Tensor& targets) {
  constexpr const char* op = "mask_loss";
  check_dims(op, "logits", logits, 4);
  check_shape(op, "labels", labels, {logits.dim(0)});
  check_shape(op, "targets", targets, {logits.dim(0), logits.dim(1), logits.dim(2)});
  for (const auto& [name, t, dtype] :
       {std::tuple{"labels", &labels, Dtype::i32}, {"targets", &targets, Dtype::u8}})
    check(t->dtype() == dtype && t->device() == logits.device(),
          "{}: {}: expected {} on {}, found {} on {}", op, name, name_of(dtype),
          str(logits.device()), name_of(t->dtype()), str(t->device()));

  const Dtype dtype = acc_dtype(logits.dtype());
  Tensor parts = empty({logits.dim(0), 1, 1}, dtype, logits.device());
  Tensor loss = empty({1}, dtype, logits.device());
  const double n = double(targets.numel()), scale = 1 / std::max(n, 1.0);
  // A logit a pixel is read, each time with its cache line.
  const double bytes = std::min(double(logits.bytes()), 64 * n);
  {
    const profile::OpScope scope("mask_loss.fwd", 8 * n, bytes);
    kernels::mask_loss_fwd(logits.stream(), logits, labels, targets, scale, parts, loss);
  }
  autograd::record(op, {&loss}, {logits}, [=](autograd::Backward& g) {
    const profile::OpScope scope("mask_loss.bwd", 8 * n, bytes + double(logits.bytes()));
    kernels::mask_loss_bwd(logits.stream(), g.dy(), logits, labels, targets, scale, g.grad(0));
  });
  return loss;
}

}  // namespace sg
