// The learning rate of each step.
#pragma once
#include <cstdint>
#include <variant>
#include <vector>

namespace sg {

// The published recipe: linear warm-up, cosine, and a cooldown at the minimum, constant within an
// epoch, as timm 0.3.4. The cosine is not shifted by the warm-up: it is a function of
// epoch / epochs alone, so the peak lies below `lr`. Two changes of it, as timm 1: the rate may
// follow the steps, as if an epoch were a real number, and the warm-up may come before the epochs
// of the cosine.
struct CosineSchedule {
  int epochs = 300;  // of warm-up and cosine together
  int warmup_epochs = 20;
  int cooldown_epochs = 10;
  double lr = 1e-3, min_lr = 1e-5;
  double warmup_lr = 1e-6;     // of epoch 0
  int64_t epoch_steps = 0;     // where the rate follows the steps: of an epoch; else 0
  bool warmup_prefix = false;  // total_epochs() are longer by the warm-up

  void validate() const;  // throws ExitCode::usage
  int total_epochs() const {
    return epochs + cooldown_epochs + (warmup_prefix ? warmup_epochs : 0);
  }
  double at(double epoch) const;  // counted from 0
};

// The two of dense tasks, by step, as mmcv 1: in the first steps the rate of the step is multiplied
// by a factor that rises linearly from `ratio` to 1.
struct Warmup {
  int64_t steps = 0;
  double ratio = 1e-6;
  void validate() const;  // throws ExitCode::usage
  double at(int64_t step) const;
};

// min_lr + (lr - min_lr) (1 - step / steps)^power
struct PolynomialSchedule {
  int64_t steps = 160000;
  double lr = 6e-5, min_lr = 0, power = 1;
  Warmup warmup{};

  void validate() const;  // throws ExitCode::usage
  double at(int64_t step) const;
};

// lr gamma^k from the k-th milestone on, which counts itself.
struct MilestoneSchedule {
  std::vector<int64_t> milestones;  // steps, ascending
  double lr = 1e-4, gamma = 0.1;
  Warmup warmup{};

  void validate() const;  // throws ExitCode::usage
  double at(int64_t step) const;
};

using Schedule = std::variant<CosineSchedule, PolynomialSchedule, MilestoneSchedule>;
// Both counted from 0 over the run.
double learning_rate(const Schedule& schedule, int64_t epoch, int64_t step);

}  // namespace sg
