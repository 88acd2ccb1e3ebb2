// AdamW with averaged weights (EMA): flat buffers beside those of a ParameterStore.
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
  Optimizer(ParameterStore& parameters, OptimizerSettings settings);

  struct Outcome {
    double grad_norm = 0;  // before clipping
    bool applied = true;
  };
  // One update by the collected gradients, which are the sum of those of `passes` passes. Where
  // they are not finite, or `usable` is false, the weights, the moments and the count of updates
  // stay, and only the EMA moves on.
  Outcome step(double lr, int64_t passes = 1, bool usable = true);

  const OptimizerSettings& settings() const { return settings_; }

  // Flat, in the layout of ParameterStore::values(); the EMA is undefined where there is none. It
  // starts from the weights: call reset_ema() when those have been set.
  const Tensor& moment1() const { return m_; }
  const Tensor& moment2() const { return v_; }
  const Tensor& ema() const { return ema_; }
  void reset_ema();

  int64_t updates = 0;  // Adam's t

 private:
  ParameterStore& parameters_;
  OptimizerSettings settings_;
  std::vector<AdamWSegment> segments_;
  Tensor values_, m_, v_, ema_;
};

}  // namespace sg::nn
