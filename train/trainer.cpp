#include "train/trainer.h"

#include <algorithm>

#include "autograd/add_into.h"
#include "autograd/tape.h"
#include "train/progress.h"
#include "train/signals.h"

namespace sg::train {
namespace {

using Clock = std::chrono::steady_clock;
double since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

// The EMA's horizon fits 31 times into the published run of 387,810 steps, so it does in others.
double usual_ema_decay(int64_t total_steps) {
  return std::clamp(1 - 31 / double(std::max<int64_t>(total_steps, 1)), 0.0, 0.99992);
}

}  // namespace

struct Trainer::Step {
  double loss = 0, grad_norm = 0, lr = 0, seconds = 0, waited = 0;
  bool applied = true;
};

Trainer::Trainer(const Options& options, tasks::Task& task, report::Console& console)
    : options_(options),
      task_(task),
      console_(console),
      schedule_{
          int(options.epochs), int(options.warmup_epochs), int(options.cooldown_epochs), options.lr,
          options.min_lr,      options.warmup_lr},
      epoch_steps_(task.batches() / options.grad_accum),
      optimizer_(
          task.parameters(),
          {options.weight_decay, options.model_ema_decay.value_or(usual_ema_decay(total_steps())),
           options.clip_grad}),
      graph_(task.parameters().device(), !options.eager),
      loss_(zeros({1}, wide(task.parameters().dtype()), task.parameters().device())) {
  options_.model_ema_decay = optimizer_.settings().ema_decay;
  if (epoch_steps_ < 1)
    fail(ExitCode::usage,
         "--grad-accum: a step of {} batches of {} needs more pictures than the training set has; "
         "use fewer, or a smaller --batch-size",
         options.grad_accum, task.batch_size());
}

int64_t Trainer::unjudged_epoch() const {
  return at_.epoch + (at_.evaluated && (at_.epoch_steps == epoch_steps_ || finished()));
}

bool Trainer::finished() const {
  const bool last = at_.epoch + 1 >= schedule_.total_epochs() && at_.epoch_steps == epoch_steps_;
  return at_.evaluated && (last || (options_.max_steps && at_.step >= options_.max_steps));
}

ExitCode Trainer::run(Outputs& outputs) {
  while (!finished()) {
    if (std::exchange(at_.evaluated, false) && at_.epoch_steps == epoch_steps_)
      ++at_.epoch, at_.epoch_steps = 0, at_.loss = {};
    if (!train_epoch(outputs) || !judge(outputs)) {
      if (saved_step_ != at_.step) outputs.checkpoints.save_recovery(checkpoint(outputs.identity));
      console_.line(fmt::format("signal {}: saved at step {}; go on with --resume auto",
                                stop_signal(), at_.step));
      return ExitCode::interrupted;
    }
  }
  return ExitCode::ok;
}

double Trainer::try_step() {
  task_.start_epoch(at_.epoch, at_.epoch_steps * options_.grad_accum);
  return step().seconds;
}

bool Trainer::train_epoch(Outputs& outputs) {
  const auto reached = [&] { return options_.max_steps && at_.step >= options_.max_steps; };
  task_.start_epoch(at_.epoch, at_.epoch_steps * options_.grad_accum);
  while (at_.epoch_steps < epoch_steps_ && !reached()) {
    if (stop_signal()) return false;
    const Step done = step();
    ++at_.step, ++at_.epoch_steps;
    at_.seconds += done.seconds;
    if (std::isfinite(done.loss)) at_.loss.add(done.loss);
    count_skip(done);
    log_step(done, outputs);
    if (options_.recovery_interval && at_.step % options_.recovery_interval == 0) {
      outputs.checkpoints.save_recovery(checkpoint(outputs.identity));
      saved_step_ = at_.step;
    }
  }
  return !stop_signal();
}

Trainer::Step Trainer::step() {
  const auto begin = Clock::now();
  Step s{.lr = schedule_.at(int(at_.epoch))};
  const int64_t passes = options_.grad_accum;
  optimizer_.prepare(s.lr, passes);
  try {
    for (int64_t i = 0; i < passes; ++i) {
      s.waited += task_.stage(at_.step, i * task_.batch_size());
      const bool first = i == 0, last = i + 1 == passes;
      graph_.run({first, last}, [&] { pass(first, last); });
    }
  } catch (const OutOfMemory& e) {
    // What the batch took until then, against what it may take.
    const double needed = double(e.in_use + e.asked), room = double(e.in_use + e.free);
    const auto fits = int64_t(double(task_.batch_size()) * room / needed);
    fail(e.code(),
         "{}: --batch-size {} needs more; at most {} can fit, and --grad-accum makes up for it",
         e.what(), task_.batch_size(),
         std::max<int64_t>(1, std::min(fits, task_.batch_size() - 1)));
  }
  task_.prefetch();
  const auto outcome = optimizer_.finish();
  s.loss = outcome.loss / double(passes);
  s.grad_norm = outcome.grad_norm, s.applied = outcome.applied;
  s.seconds = since(begin);
  return s;
}

void Trainer::pass(bool first, bool last) {
  if (first) task_.parameters().clear_grads();
  const Tensor loss = task_.loss();
  autograd::backward(loss);
  if (first)
    loss_.copy_(loss.detach());
  else
    kernels::add_into(loss.stream(), loss, loss_);
  if (last) optimizer_.update(loss_);
}

void Trainer::count_skip(const Step& s) {
  if (s.applied) {
    at_.skipped_in_a_row = 0;
    return;
  }
  ++at_.skipped, ++at_.skipped_in_a_row;
  console_.warning(
      fmt::format("step {} of epoch {} is skipped: loss {}, norm of the gradient {}; "
                  "{} in a row, {} in all",
                  at_.step, at_.epoch, s.loss, s.grad_norm, at_.skipped_in_a_row, at_.skipped));
  if (at_.skipped_in_a_row >= kMostSkips)
    fail(ExitCode::nonfinite,
         "{} steps in a row without finite numbers, the last one at step {}; the newest checkpoint "
         "is good: go on from it with a smaller --lr, or with --clip-grad 1",
         kMostSkips, at_.step);
}

void Trainer::log_step(const Step& s, Outputs& outputs) {
  const double images = double(task_.batch_size() * options_.grad_accum);
  step_seconds_ = step_seconds_ ? 0.95 * step_seconds_ + 0.05 * s.seconds : s.seconds;
  interval_seconds_ += s.seconds, interval_waited_ += s.waited, ++interval_steps_;
  if (console_.terminal())
    console_.bar(fmt::format(
        " Epoch {}/{} {} {:3.0f}%  loss {:.3f}  {:.0f} images/s  lr {:.1e}  {} left", at_.epoch + 1,
        schedule_.total_epochs(), gauge(double(at_.epoch_steps) / double(epoch_steps_)),
        100.0 * double(at_.epoch_steps) / double(epoch_steps_), at_.loss.value(),
        images / step_seconds_, s.lr, report::duration(seconds_left())));

  const int64_t i = at_.epoch_steps - 1;
  if (i % options_.log_interval != 0 && at_.epoch_steps != epoch_steps_) return;
  const double seconds = interval_seconds_ / double(interval_steps_);
  const double waited = interval_waited_ / double(interval_steps_);
  console_.detail(fmt::format(
      "Train: {} {} Loss: {:.3f} ({:.3f}) Time: {:.3f}s, {:.0f}/s LR: {:.1e} Data: {:.3f}",
      at_.epoch, place_of(i, epoch_steps_), s.loss, at_.loss.value(), seconds, images / seconds,
      s.lr, waited));
  outputs.log.add({{"epoch", at_.epoch},
                   {"step", at_.step},
                   {"loss", s.loss},
                   {"loss_mean", at_.loss.value()},
                   {"grad_norm", s.grad_norm},
                   {"lr", s.lr},
                   {"skipped", at_.skipped},
                   {"images_per_second", images / seconds},
                   {"data_seconds", waited}});
  interval_seconds_ = interval_waited_ = 0, interval_steps_ = 0;
}

double Trainer::seconds_left() const {
  const int64_t whole = total_steps() - at_.epoch * epoch_steps_ - at_.epoch_steps;
  const int64_t steps =
      options_.max_steps ? std::clamp<int64_t>(options_.max_steps - at_.step, 0, whole) : whole;
  const double epochs = std::ceil(double(steps) / double(epoch_steps_));
  return double(steps) * step_seconds_ + epochs * judge_seconds_;
}

void Trainer::with_ema(const std::function<void()>& f) {
  nn::ParameterStore& parameters = task_.parameters();
  if (!optimizer_.ema()) return f();
  struct Restore {
    nn::ParameterStore& parameters;
    Tensor values;
    ~Restore() { parameters.use_values(values); }
  } restore{parameters, parameters.values()};
  parameters.use_values(optimizer_.ema());
  f();
}

std::optional<tasks::Scores> Trainer::evaluate(const std::string& title) {
  const auto scores = evaluate_aloud(
      title,
      {[&](const tasks::Task::Progress& progress) { return task_.evaluate(progress); },
       [&](const tasks::Scores& s) { return task_.describe(s); }},
      options_.log_interval, console_);
  if (scores) console_.detail(" * " + task_.describe(*scores));
  return scores;
}

bool Trainer::judge(Outputs& outputs) {
  const auto begin = Clock::now();
  const std::optional<tasks::Scores> model = evaluate("Test");
  if (!model) return false;
  std::optional<tasks::Scores> chosen = model;
  if (optimizer_.ema()) with_ema([&] { chosen = evaluate("Test (EMA)"); });
  if (!chosen) return false;
  judge_seconds_ = since(begin);
  at_.seconds += judge_seconds_;

  const double metric = (*chosen)[task_.metric()];
  const bool best = metric > at_.best;
  if (best) at_.best = metric, at_.best_epoch = at_.epoch;
  nlohmann::json row{{"epoch", at_.epoch},
                     {"step", at_.step},
                     {"lr", schedule_.at(int(at_.epoch))},
                     {"train_loss", at_.loss.value()},
                     {"seconds", at_.seconds}};
  for (const auto& [name, value] : chosen->values) row["eval_" + name] = value;
  if (optimizer_.ema())
    for (const auto& [name, value] : model->values) row["eval_model_" + name] = value;
  outputs.log.add(std::move(row));
  console_.line(fmt::format("Epoch {}/{}: train loss {:.3f}, {}{}, {}{}", at_.epoch + 1,
                            schedule_.total_epochs(), at_.loss.value(),
                            optimizer_.ema() ? "EMA " : "", task_.describe(*chosen),
                            report::duration(at_.seconds), best ? ", best so far" : ""));

  at_.evaluated = true;
  outputs.checkpoints.save(checkpoint(outputs.identity), metric);
  saved_step_ = at_.step;
  if (outputs.report) outputs.report();
  return true;
}

}  // namespace sg::train
