// AdamW with averaged weights (EMA): flat buffers beside those of a ParameterStore.
//
// A step has three parts, so that the one in the middle can be captured (core/graph.h):
//   optimizer.prepare(lr, passes);   // on the host: this step's numbers go to the device
//   optimizer.update(loss);          // on the device
//   outcome = optimizer.finish();    // on the host: waits for the device
#pragma once
#include "nn/parameters.h"

namespace sg::nn {

// The decay of the EMA in a step, counted from 0, of timm's ModelEmaV3 with warm-up: it rises from
// 0 as 1 - (1 + step)^(-2/3) up to `decay`.
double warm_ema_decay(double decay, int64_t step);

class Optimizer {
 public:
  // Updates the parameters that are not frozen. Frozen ones keep their value and zero moments;
  // their EMA is their value.
  Optimizer(ParameterStore& parameters, AdamWSettings settings);

  // Prepares an update by gradients that are summed over `passes` micro-steps. The EMA's decay in
  // it is that of the settings where none is given.
  void prepare(double lr, int64_t passes = 1, std::optional<double> ema_decay = {});
  // One update by the accumulated gradients. Where they or `loss` (1; or undefined) are not finite,
  // weights and moments keep their values and only the EMA moves on.
  void update(const Tensor& loss);
  struct Outcome {
    double grad_norm = 0;  // before clipping
    bool applied = true;
    double loss = 0;  // that update() was given
  };
  // The outcome of the last update. Increments `updates` if it was applied. Only here does the host
  // wait for the device.
  Outcome finish();

  const AdamWSettings& settings() const { return settings_; }

  // Flat, in the layout of ParameterStore::values(); the EMA is undefined where there is none. It
  // starts from the weights: call reset_ema() when those have been set.
  Tensor& moment1() { return m_; }
  Tensor& moment2() { return v_; }
  Tensor& ema() { return ema_; }
  const Tensor& moment1() const { return m_; }
  const Tensor& moment2() const { return v_; }
  const Tensor& ema() const { return ema_; }
  void reset_ema();

  int64_t updates = 0;  // Adam's t

 private:
  ParameterStore& parameters_;
  AdamWSettings settings_;
  AdamWPlan plan_;
  Tensor values_, m_, v_, ema_;
  Tensor control_, host_control_;  // see adamw_control()
  Tensor outcome_, host_outcome_;  // see adamw()
};

}  // namespace sg::nn
