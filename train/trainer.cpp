#include "train/trainer.h"

#include <algorithm>

#include "autograd/add_into.h"
#include "autograd/tape.h"
#include "train/evaluate.h"
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

Schedule published_schedule(const Options& o) {
  return CosineSchedule{int(o.epochs), int(o.warmup_epochs), int(o.cooldown_epochs), o.lr,
                        o.min_lr,      o.warmup_lr};
}

void set_or_add(bool set, const Tensor& from, Out to) {
  if (set)
    to.copy_(from);
  else
    kernels::add_into(from.stream(), from, to);
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
      epoch_steps_(task.batches() / options.grad_accum),
      schema_(task.schema()),
      schedule_(task.schedule(total_steps()).value_or(published_schedule(options))),
      optimizer_(
          task.parameters(),
          {options.weight_decay, options.model_ema_decay.value_or(usual_ema_decay(total_steps())),
           options.clip_grad}),
      graph_(task.parameters().device(), !options.eager),
      loss_(zeros({1}, acc_dtype(task.parameters().dtype()), task.parameters().device())),
      part_names_(task.loss_parts()) {
  options_.model_ema_decay = optimizer_.settings().ema_decay;
  if (!std::holds_alternative<CosineSchedule>(schedule_))  // that of the options is checked there
    std::visit([](const auto& s) { s.validate(); }, schedule_);
  check(!schema_.empty(), "trainer: the task has no scores, of which the first chooses the best");
  if (!part_names_.empty())
    parts_ = zeros({int64_t(part_names_.size())}, loss_.dtype(), loss_.device());
  if (epoch_steps_ < 1)
    fail(ExitCode::usage,
         "--grad-accum: a step of {} batches of {} needs more images than the training set has; "
         "use fewer, or a smaller --batch-size",
         options.grad_accum, task.batch_size());
}

int64_t Trainer::unevaluated_epoch() const {
  return state_.epoch + (state_.evaluated && (state_.epoch_steps == epoch_steps_ || finished()));
}

bool Trainer::finished() const {
  const bool last = state_.epoch + 1 >= total_epochs() && state_.epoch_steps == epoch_steps_;
  return state_.evaluated && (last || (options_.max_steps && state_.step >= options_.max_steps));
}

ExitCode Trainer::run(Outputs& outputs) {
  while (!finished()) {
    if (std::exchange(state_.evaluated, false) && state_.epoch_steps == epoch_steps_)
      ++state_.epoch, state_.epoch_steps = 0, state_.loss = {};
    if (!train_epoch(outputs) || !evaluate_epoch(outputs)) {
      if (saved_step_ != state_.step)
        outputs.checkpoints.save_recovery(checkpoint(outputs.identity));
      console_.line(fmt::format("signal {}: saved at step {}; go on with --resume auto",
                                stop_signal(), state_.step));
      return ExitCode::interrupted;
    }
  }
  return ExitCode::ok;
}

void Trainer::attach(nn::Reducer& reducer, int64_t slice_elements) {
  slices_.emplace(task_.parameters(), reducer, slice_elements);
}

double Trainer::learning_rate(int64_t step) const {
  return sg::learning_rate(schedule_, state_.epoch, step);
}

double Trainer::try_step() {
  task_.start_epoch(state_.epoch, state_.epoch_steps * options_.grad_accum);
  return step().seconds;
}

bool Trainer::train_epoch(Outputs& outputs) {
  const auto reached = [&] { return options_.max_steps && state_.step >= options_.max_steps; };
  task_.start_epoch(state_.epoch, state_.epoch_steps * options_.grad_accum);
  while (state_.epoch_steps < epoch_steps_ && !reached()) {
    if (stop_signal()) return false;
    const Step done = step();
    ++state_.step, ++state_.epoch_steps;
    state_.seconds += done.seconds;
    if (std::isfinite(done.loss)) state_.loss.add(done.loss);
    count_skip(done);
    log_step(done, outputs);
    if (options_.recovery_interval && state_.step % options_.recovery_interval == 0) {
      outputs.checkpoints.save_recovery(checkpoint(outputs.identity));
      saved_step_ = state_.step;
    }
  }
  return !stop_signal();
}

Trainer::Step Trainer::step() {
  const auto begin = Clock::now();
  Step s{.lr = learning_rate(state_.step)};
  const int64_t passes = options_.grad_accum;
  optimizer_.prepare(s.lr, passes);
  try {
    for (int64_t i = 0; i < passes; ++i) {
      const tasks::Batch batch = task_.load_batch({state_.step, i * task_.batch_size()});
      s.waited += batch.waited;
      const bool first = i == 0, last = i + 1 == passes;
      std::vector<uint64_t> key = batch.key();
      key.insert(key.end(), {first, last});
      graph_.run(key, [&] { pass(batch, first, last); });
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

void Trainer::pass(const tasks::Batch& batch, bool first, bool last) {
  // What the pass before left, which may have been a record: then nothing of it ran on the host.
  if (first)
    task_.parameters().clear_grads();
  else
    for (const nn::Parameter* p : task_.parameters().in_order()) autograd::keep_grad(p->value);
  const tasks::Losses losses = task_.losses(batch);
  check(losses.parts.size() == part_names_.size(), "task: {} names of parts of the loss, {} parts",
        part_names_.size(), losses.parts.size());
  if (last && slices_)
    slices_->backward(batch.shapes(), losses.total);
  else
    autograd::backward(losses.total);
  // Now, so that the pass after can add to all of them.
  task_.parameters().complete_grads();
  set_or_add(first, losses.total.detach(), loss_);
  for (size_t i = 0; i < losses.parts.size(); ++i) {
    Tensor part = parts_.slice(int64_t(i), int64_t(i) + 1);
    set_or_add(first, losses.parts[i].detach(), part);
  }
  if (last) optimizer_.update(loss_);
}

std::vector<std::pair<std::string, double>> Trainer::loss_parts() const {
  std::vector<std::pair<std::string, double>> result;
  if (!parts_) return result;
  const std::vector<double> sums = to_vector<double>(parts_.to(Device{}).to(Dtype::f64));
  for (size_t i = 0; i < sums.size(); ++i)
    result.emplace_back(part_names_[i], sums[i] / double(options_.grad_accum));
  return result;
}

void Trainer::count_skip(const Step& s) {
  if (s.applied) {
    state_.skipped_in_a_row = 0;
    return;
  }
  ++state_.skipped, ++state_.skipped_in_a_row;
  std::string parts;
  for (const auto& [name, value] : loss_parts()) parts += fmt::format(", {} {}", name, value);
  console_.warning(
      fmt::format("step {} of epoch {} is skipped: loss {}{}, norm of the gradient "
                  "{}; {} in a row, {} in all",
                  state_.step, state_.epoch, s.loss, parts, s.grad_norm, state_.skipped_in_a_row,
                  state_.skipped));
  if (state_.skipped_in_a_row >= kMostSkips)
    fail(ExitCode::nonfinite,
         "{} steps in a row without finite numbers, the last one at step {}; the newest checkpoint "
         "is good: go on from it with a smaller --lr, or with --clip-grad 1",
         kMostSkips, state_.step);
}

void Trainer::log_step(const Step& s, Outputs& outputs) {
  const double images = double(task_.batch_size() * options_.grad_accum);
  step_seconds_ = step_seconds_ ? 0.95 * step_seconds_ + 0.05 * s.seconds : s.seconds;
  interval_seconds_ += s.seconds, interval_waited_ += s.waited, ++interval_steps_;
  if (console_.terminal())
    console_.bar(
        fmt::format(" Epoch {}/{} {} {:3.0f}%  loss {:.3f}  {:.0f} images/s  lr {:.1e}  {} left",
                    state_.epoch + 1, total_epochs(),
                    progress_bar(double(state_.epoch_steps) / double(epoch_steps_)),
                    100.0 * double(state_.epoch_steps) / double(epoch_steps_), state_.loss.value(),
                    images / step_seconds_, s.lr, report::duration(seconds_left())));

  const int64_t i = state_.epoch_steps - 1;
  if (i % options_.log_interval != 0 && state_.epoch_steps != epoch_steps_) return;
  const double seconds = interval_seconds_ / double(interval_steps_);
  const double waited = interval_waited_ / double(interval_steps_);
  console_.detail(fmt::format(
      "Train: {} {} Loss: {:.3f} ({:.3f}) Time: {:.3f}s, {:.0f}/s LR: {:.1e} Data: {:.3f}",
      state_.epoch, place_of(i, epoch_steps_), s.loss, state_.loss.value(), seconds,
      images / seconds, s.lr, waited));
  nlohmann::json row{{"epoch", state_.epoch},
                     {"step", state_.step},
                     {"loss", s.loss},
                     {"loss_mean", state_.loss.value()},
                     {"grad_norm", s.grad_norm},
                     {"lr", s.lr},
                     {"skipped", state_.skipped},
                     {"images_per_second", images / seconds},
                     {"data_seconds", waited}};
  for (const auto& [name, value] : loss_parts()) row["loss_" + name] = value;
  outputs.log.add(std::move(row));
  interval_seconds_ = interval_waited_ = 0, interval_steps_ = 0;
}

double Trainer::seconds_left() const {
  const int64_t whole = total_steps() - state_.epoch * epoch_steps_ - state_.epoch_steps;
  const int64_t steps =
      options_.max_steps ? std::clamp<int64_t>(options_.max_steps - state_.step, 0, whole) : whole;
  const double epochs = std::ceil(double(steps) / double(epoch_steps_));
  return double(steps) * step_seconds_ + epochs * eval_seconds_;
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
  const auto scores = evaluate_with_progress(
      title, [&](const tasks::Task::Progress& progress) { return task_.evaluate(progress); },
      schema_, options_.log_interval, console_);
  if (scores) console_.detail(" * " + describe(schema_, *scores));
  return scores;
}

bool Trainer::evaluate_epoch(Outputs& outputs) {
  const auto begin = Clock::now();
  const std::optional<tasks::Scores> model = evaluate("Test");
  if (!model) return false;
  std::optional<tasks::Scores> chosen = model;
  if (optimizer_.ema()) with_ema([&] { chosen = evaluate("Test (EMA)"); });
  if (!chosen) return false;
  eval_seconds_ = since(begin);
  state_.seconds += eval_seconds_;

  const ScoreInfo& chooses = schema_[0];
  const double score = (*chosen)[chooses.name];
  const bool best =
      state_.best_epoch < 0 ? !std::isnan(score) : improves(chooses, score, state_.best);
  if (best) state_.best = score, state_.best_epoch = state_.epoch;
  nlohmann::json row{{"epoch", state_.epoch},
                     {"step", state_.step},
                     {"lr", learning_rate(std::max<int64_t>(state_.step - 1, 0))},
                     {"train_loss", state_.loss.value()},
                     {"seconds", state_.seconds}};
  for (const auto& [name, value] : chosen->values) row["eval_" + name] = value;
  if (optimizer_.ema())
    for (const auto& [name, value] : model->values) row["eval_model_" + name] = value;
  outputs.log.add(std::move(row));
  console_.line(fmt::format("Epoch {}/{}: train loss {:.3f}, {}{}, {}{}", state_.epoch + 1,
                            total_epochs(), state_.loss.value(), optimizer_.ema() ? "EMA " : "",
                            describe(schema_, *chosen), report::duration(state_.seconds),
                            best ? ", best so far" : ""));

  state_.evaluated = true;
  // The folder's metric is greater for what is better.
  outputs.checkpoints.save(checkpoint(outputs.identity), chooses.more_is_better ? score : -score);
  saved_step_ = state_.step;
  if (outputs.report) outputs.report();
  return true;
}

}  // namespace sg::train
