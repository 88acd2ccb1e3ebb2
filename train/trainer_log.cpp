// What the trainer says of its steps: on the screen, and in the log.
#include <algorithm>
#include <cmath>
#include <utility>

#include "core/text.h"
#include "ops/conv2d/conv2d.h"
#include "train/evaluation_progress.h"
#include "train/trainer.h"

namespace sg::train {

void Trainer::StepSeconds::add(const Step& s) {
  all += s.seconds, waited += s.waited, ++steps;
  communication.busy += s.communication.busy, communication.exposed += s.communication.exposed;
}

std::vector<std::pair<std::string, double>> Trainer::loss_parts() const {
  std::vector<std::pair<std::string, double>> result;
  if (part_names_.empty()) return result;
  const std::vector<double> sums = to_vector<double>(parts_.to(Device{}).to(Dtype::f64));
  for (size_t i = 0; i < sums.size(); ++i)
    result.emplace_back(part_names_[i], sums[i] / double(options_.grad_accum * group_.ranks()));
  return result;
}

void Trainer::count_skip(const Step& s) {
  if (s.applied) {
    state_.skipped_in_a_row = 0;
    return;
  }
  ++state_.skipped, ++state_.skipped_in_a_row;
  std::string parts;
  for (const auto& [name, value] : loss_parts())
    parts += fmt::format(", {} {}", name, fixed(value, 3));
  console_.warning(
      fmt::format("step {} of epoch {} is skipped: loss {}{}, norm of the gradient "
                  "{}; {} in a row, {} in all",
                  state_.step, state_.epoch, fixed(s.loss, 3), parts, fixed(s.grad_norm, 3),
                  state_.skipped_in_a_row, state_.skipped));
}

void Trainer::StepSeconds::write(nlohmann::json& row, bool alone) const {
  if (!steps) return;
  const auto n = double(steps);
  row["data_seconds"] = waited / n, row["data_share"] = waited / all;
  if (alone) return;
  row["step_seconds"] = all / n;
  row["comm_seconds"] = communication.busy / n;
  row["comm_exposed_seconds"] = communication.exposed / n;
}

void Trainer::log_step(const Step& s, Outputs* outputs) {
  const double images = double(images_a_step(options_));
  step_seconds_ = step_seconds_ ? 0.95 * step_seconds_ + 0.05 * s.seconds : s.seconds;
  interval_.add(s);
  if (console_.terminal())
    console_.bar(fmt::format(
        " Epoch {}/{} {} {:3.0f}%  loss {}  {:.0f} images/s  lr {:.1e}  {} left", state_.epoch + 1,
        total_epochs(), progress_bar(double(state_.epoch_steps) / double(epoch_steps_)),
        100.0 * double(state_.epoch_steps) / double(epoch_steps_), fixed(state_.loss.value(), 3),
        images / step_seconds_, s.lr, report::duration(seconds_left())));

  const int64_t i = state_.epoch_steps - 1;
  if (i % options_.log_interval != 0 && state_.epoch_steps != epoch_steps_) return;
  const StepSeconds interval = std::exchange(interval_, {});
  if (!outputs) return;
  const auto mean = [&](double sum) { return sum / double(interval.steps); };
  const double seconds = mean(interval.all);
  const auto [busy, exposed] = interval.communication;
  console_.detail(fmt::format(
      "Train: {} {} Loss: {} ({}) Time: {:.3f}s, {:.0f}/s LR: {:.1e} "
      "Data: {:.3f} ({:.0f} %){}",
      state_.epoch, place_of(i, epoch_steps_), fixed(s.loss, 3), fixed(state_.loss.value(), 3),
      seconds, images / seconds, s.lr, mean(interval.waited), 100 * interval.waited / interval.all,
      communicator_ ? fmt::format(" Comm: {:.3f} ({:.0f} % hidden)", mean(busy),
                                  busy > 0 ? 100 * std::max(0.0, 1 - exposed / busy) : 100.0)
                    : ""));
  nlohmann::json row{{"epoch", state_.epoch},
                     {"step", state_.step},
                     {"loss", s.loss},
                     {"loss_mean", state_.loss.value()},
                     {"grad_norm", s.grad_norm},
                     {"lr", s.lr},
                     {"skipped", state_.skipped},
                     {"images_per_second", images / seconds}};
  interval.write(row, !communicator_);
  for (const auto& [name, value] : loss_parts()) row["loss_" + name] = value;
  outputs->log.add(std::move(row));
}

double Trainer::seconds_left() const {
  const int64_t whole = total_steps() - state_.epoch * epoch_steps_ - state_.epoch_steps;
  const int64_t steps =
      options_.max_steps ? std::clamp<int64_t>(options_.max_steps - state_.step, 0, whole) : whole;
  const double epochs = std::ceil(double(steps) / double(epoch_steps_));
  return double(steps) * step_seconds_ + epochs * eval_seconds_;
}

void Trainer::tell_convolutions() {
  // A line without the folder that a library was found in.
  const auto choice = [](const std::string& line) { return line.substr(0, line.find(" (/")); };
  std::vector<std::string> before;
  std::ranges::transform(convolutions_before_, std::back_inserter(before), choice);
  for (const std::string& line : conv2d_choices(task_.parameters().device())) {
    console_.detail(line);
    if (before.empty() || std::ranges::find(before, choice(line)) != before.end()) continue;
    console_.warning(fmt::format(
        "{}: the checkpoint was made with others; the run goes on, its bits may differ", line));
  }
}

}  // namespace sg::train
