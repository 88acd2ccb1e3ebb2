#include "nn/optim/optimizer.h"

#include <cmath>

namespace sg::nn {

Optimizer::Optimizer(ParameterStore& parameters, OptimizerSettings settings)
    : parameters_(parameters),
      settings_(settings),
      segments_(parameters.segments()),
      values_(parameters.values()),
      m_(zeros(values_.shape(), values_.dtype(), values_.device())),
      v_(zeros(values_.shape(), values_.dtype(), values_.device())) {
  if (settings_.ema_decay > 0) ema_ = values_.clone();
}

void Optimizer::reset_ema() {
  if (ema_) ema_.copy_(values_);
}

Optimizer::Outcome Optimizer::step(double lr, int64_t passes, bool usable) {
  parameters_.complete_grads();
  AdamWSettings s{.lr = lr,
                  .weight_decay = settings_.weight_decay,
                  .ema_decay = settings_.ema_decay,
                  .step = updates + 1,
                  .grad_scale = 1 / double(passes)};
  const Tensor& grads = parameters_.grads();
  const double norm = std::sqrt(sum_of_squares(grads)) * s.grad_scale;
  if (!usable || !std::isfinite(norm)) {
    // A step of zero length, with other moments: the weights keep their bits.
    if (ema_) {
      s.lr = 0;
      const Tensor zero = zeros(grads.shape(), grads.dtype(), grads.device());
      adamw(values_, zero, zero.clone(), zero.clone(), ema_, segments_, s);
    }
    return {norm, false};
  }
  if (settings_.clip_grad > 0 && norm > settings_.clip_grad)
    s.grad_scale *= settings_.clip_grad / (norm + 1e-6);  // as torch.nn.utils.clip_grad_norm_
  adamw(values_, grads, m_, v_, ema_, segments_, s);
  ++updates;
  return {norm, true};
}

}  // namespace sg::nn
