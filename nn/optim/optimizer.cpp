#include "nn/optim/optimizer.h"

#include <algorithm>
#include <cmath>

namespace sg::nn {

double warm_ema_decay(double decay, int64_t step) {
  return std::min(decay, 1 - std::pow(1 + double(step), -2.0 / 3.0));
}

Optimizer::Optimizer(ParameterStore& parameters, AdamWSettings settings)
    : parameters_(parameters), settings_(settings), values_(parameters.values()) {
  const Device device = values_.device();
  check(!parameters.segments().empty(), "optimizer: all parameters are frozen");
  plan_ = plan_adamw(parameters.segments(), values_.numel(), device);
  m_ = zeros(values_.shape(), values_.dtype(), device);
  v_ = zeros(values_.shape(), values_.dtype(), device);
  if (settings_.ema_decay > 0) ema_ = values_.clone();
  control_ = zeros({kAdamWControl}, Dtype::f64, device);
  outcome_ = zeros({kAdamWOutcome}, Dtype::f64, device);
  host_control_ = empty_pinned({kAdamWControl}, Dtype::f64, device);
  host_outcome_ = empty_pinned({kAdamWOutcome}, Dtype::f64, device);
}

void Optimizer::reset_ema() {
  if (ema_) ema_.copy_(values_);
}

void Optimizer::prepare(double lr, int64_t passes, std::optional<double> ema_decay) {
  // finish() waited for the copy before, so the pinned memory is free again.
  const auto control = adamw_control(
      {.lr = lr, .t = updates + 1, .grad_scale = 1 / double(passes), .ema_decay = ema_decay},
      settings_);
  std::ranges::copy(control, host_control_.data<double>());
  control_.copy_(host_control_);
}

void Optimizer::update(const Tensor& loss) {
  parameters_.zero_unreached_grads();
  adamw({values_, parameters_.grads(), m_, v_, ema_, parameters_.bf16_values()}, plan_, settings_,
        control_, loss, outcome_);
}

Optimizer::Outcome Optimizer::finish() {
  host_outcome_.copy_(outcome_);
  const double* const o = host_outcome_.data<double>();
  updates += o[1] != 0;
  return {o[0], o[1] != 0, o[2]};
}

}  // namespace sg::nn
