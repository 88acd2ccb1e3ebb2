// AdamW with averaged weights (EMA): flat buffers beside those of a ParameterStore.
//
// A step has three parts, so that the one in the middle can be captured (core/graph.h):
//   optimizer.prepare(lr, passes);   // on the host: this step's numbers go to the device
//   optimizer.update(loss);          // on the device
//   outcome = optimizer.finish();    // on the host: waits for the device
#pragma once
#include "nn/parameters.h"

namespace sg::nn {

struct OptimizerSettings {
  double weight_decay = 0.05;
  double ema_decay = 0;  // 0: no EMA
  double clip_grad = 0;  // largest norm of the gradient; 0: no clipping
};

class Optimizer {
 public:
  // Updates the parameters that are not frozen. Frozen ones keep their value and zero moments;
  // their EMA is their value.
  Optimizer(ParameterStore& parameters, OptimizerSettings settings);

  // Prepares an update by gradients that are summed over `passes` micro-steps.
  void prepare(double lr, int64_t passes = 1);
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

  const OptimizerSettings& settings() const { return settings_; }

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
  AdamWSettings adamw_settings() const;

  ParameterStore& parameters_;
  OptimizerSettings settings_;
  AdamWPlan plan_;
  Tensor values_, m_, v_, ema_;
  Tensor control_, host_control_;  // see adamw_control()
  Tensor outcome_, host_outcome_;  // see adamw()
};

}  // namespace sg::nn
