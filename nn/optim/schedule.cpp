#include "nn/optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <type_traits>

#include "core/error.h"

namespace sg {
namespace {

void expect(bool ok, const char* name, const char* expected, auto found) {
  if (!ok) fail(ExitCode::usage, "{}: expected {}, found {}", name, expected, found);
}

void check_step(int64_t step) {
  check(step >= 0, "schedule: step: expected at least 0, found {}", step);
}

}  // namespace

void CosineSchedule::validate() const {
  expect(epochs >= 1, "epochs", "at least 1", epochs);
  expect(warmup_epochs >= 0, "warmup epochs", "at least 0", warmup_epochs);
  expect(cooldown_epochs >= 0, "cooldown epochs", "at least 0", cooldown_epochs);
  expect(std::isfinite(lr) && lr > 0, "lr", "above 0", lr);
  expect(min_lr >= 0 && min_lr <= lr, "minimum lr", "0 to lr", min_lr);
  expect(warmup_lr >= 0 && warmup_lr <= lr, "warmup lr", "0 to lr", warmup_lr);
  if (warmup_epochs > epochs && !warmup_prefix)
    fail(ExitCode::usage,
         "warmup epochs: {} do not fit into {} epochs; lower them, or the learning rate is never "
         "reached",
         warmup_epochs, epochs);
}

double CosineSchedule::at(double epoch) const {
  check(epoch >= 0, "schedule: epoch: expected at least 0, found {}", epoch);
  if (epoch < warmup_epochs) return warmup_lr + epoch * (lr - warmup_lr) / warmup_epochs;
  if (warmup_prefix) epoch -= warmup_epochs;
  if (epoch >= epochs) return min_lr;
  return min_lr + 0.5 * (lr - min_lr) * (1 + std::cos(std::numbers::pi * epoch / epochs));
}

void Warmup::validate() const {
  expect(steps >= 0, "warmup steps", "at least 0", steps);
  expect(ratio >= 0 && ratio <= 1, "warmup ratio", "0 to 1", ratio);
}

double Warmup::at(int64_t step) const {
  return step >= steps ? 1 : 1 - (1 - double(step) / double(steps)) * (1 - ratio);
}

void PolynomialSchedule::validate() const {
  expect(steps >= 1, "steps", "at least 1", steps);
  expect(std::isfinite(lr) && lr > 0, "lr", "above 0", lr);
  expect(min_lr >= 0 && min_lr <= lr, "minimum lr", "0 to lr", min_lr);
  expect(std::isfinite(power) && power > 0, "power", "above 0", power);
  warmup.validate();
}

double PolynomialSchedule::at(int64_t step) const {
  check_step(step);
  const double left = std::max(1 - double(step) / double(steps), 0.0);
  return warmup.at(step) * (min_lr + (lr - min_lr) * std::pow(left, power));
}

void MilestoneSchedule::validate() const {
  expect(std::isfinite(lr) && lr > 0, "lr", "above 0", lr);
  expect(gamma > 0 && gamma <= 1, "gamma", "above 0, up to 1", gamma);
  int64_t before = 0;
  for (const int64_t m : milestones) {
    expect(m > before, "milestones", "steps above 0, ascending", m);
    before = m;
  }
  warmup.validate();
}

double MilestoneSchedule::at(int64_t step) const {
  check_step(step);
  const auto passed = std::ranges::upper_bound(milestones, step) - milestones.begin();
  return warmup.at(step) * lr * std::pow(gamma, double(passed));
}

double learning_rate(const Schedule& schedule, int64_t epoch, int64_t step) {
  return std::visit(
      [&](const auto& s) {
        if constexpr (std::is_same_v<std::decay_t<decltype(s)>, CosineSchedule>)
          return s.at(s.epoch_steps ? double(step) / double(s.epoch_steps) : double(epoch));
        else
          return s.at(step);
      },
      schedule);
}

}  // namespace sg
