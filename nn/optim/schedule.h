// The learning rate of each epoch: linear warm-up, cosine, and a cooldown at the minimum, constant
// within an epoch, as timm 0.3.4. The cosine is not shifted by the warm-up: it is a function of
// epoch / epochs alone, so the peak lies below `lr`.
#pragma once

namespace sg {

struct CosineSchedule {
  int epochs = 300;  // of warm-up and cosine together
  int warmup_epochs = 20;
  int cooldown_epochs = 10;
  double lr = 1e-3, min_lr = 1e-5;
  double warmup_lr = 1e-6;  // of epoch 0

  void validate() const;  // throws ExitCode::usage
  int total_epochs() const { return epochs + cooldown_epochs; }
  double at(int epoch) const;  // counted from 0
};

}  // namespace sg
