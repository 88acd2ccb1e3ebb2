#include "nn/optim/schedule.h"

#include <cmath>
#include <numbers>

#include "core/error.h"

namespace sg {

void CosineSchedule::validate() const {
  const auto expect = [](bool ok, const char* name, const char* expected, auto found) {
    if (!ok) fail(ExitCode::usage, "{}: expected {}, found {}", name, expected, found);
  };
  expect(epochs >= 1, "epochs", "at least 1", epochs);
  expect(warmup_epochs >= 0, "warmup epochs", "at least 0", warmup_epochs);
  expect(cooldown_epochs >= 0, "cooldown epochs", "at least 0", cooldown_epochs);
  expect(std::isfinite(lr) && lr > 0, "lr", "above 0", lr);
  expect(min_lr >= 0 && min_lr <= lr, "minimum lr", "0 to lr", min_lr);
  expect(warmup_lr >= 0 && warmup_lr <= lr, "warmup lr", "0 to lr", warmup_lr);
  if (warmup_epochs > epochs)
    fail(ExitCode::usage,
         "warmup epochs: {} do not fit into {} epochs; lower them, or the learning rate is never "
         "reached",
         warmup_epochs, epochs);
}

double CosineSchedule::at(int epoch) const {
  check(epoch >= 0, "schedule: epoch: expected at least 0, found {}", epoch);
  if (epoch < warmup_epochs) return warmup_lr + epoch * (lr - warmup_lr) / warmup_epochs;
  if (epoch >= epochs) return min_lr;
  return min_lr + 0.5 * (lr - min_lr) * (1 + std::cos(std::numbers::pi * epoch / epochs));
}

}  // namespace sg
