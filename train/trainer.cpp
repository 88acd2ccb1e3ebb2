#include "train/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "autograd/add_into.h"
#include "autograd/tape.h"
#include "core/text.h"
#include "train/evaluation_progress.h"
#include "train/signals.h"

namespace sg::train {
namespace {

using Clock = std::chrono::steady_clock;
double since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

constexpr double kNotableWait = 0.05;  // share of a step that the terminal speaks of

// The EMA's horizon fits 31 times into the published run of 387,810 steps, so it does in others.
double default_ema_decay(int64_t total_steps) {
  return std::clamp(1 - 31 / double(std::max<int64_t>(total_steps, 1)), 0.0, 0.99992);
}

// Of this task and group, with the rates that follow from them.
Options complete(Options o, const tasks::Task& task, const dist::Group& group) {
  o.batch_size = task.batch_size(), o.ranks = group.ranks();
  o.lr = peak_learning_rate(o), o.warmup_epochs = warmup_epochs(o);
  if (o.steps && !o.eval_interval) o.eval_interval = std::max<int64_t>(1, o.steps / 10);
  return o;
}

AdamWSettings optimizer_settings_of(const Options& o, int64_t total_steps) {
  AdamWSettings s = optimizer_settings(o);
  if (!o.model_ema_decay) s.ema_decay = default_ema_decay(total_steps);
  return s;
}

// With the score of this name first, which chooses the best; "": as it is.
ScoreSchema chosen_by(ScoreSchema schema, const std::string& name) {
  if (name.empty()) return schema;
  const auto found = std::ranges::find(schema, name, &ScoreInfo::name);
  if (found == schema.end()) {
    std::vector<std::string> names;
    for (const ScoreInfo& s : schema) names.push_back(s.name);
    fail(ExitCode::usage, "--eval-metric: expected {}, found '{}'{}", fmt::join(names, " or "),
         name, did_you_mean(name, names));
  }
  std::rotate(schema.begin(), found, found + 1);
  return schema;
}

// Flags of a learning rate that is surely smaller: a tenth, and no more than the published recipe's
// for such a batch (by the square root of its size, as fits Adam).
std::string smaller_rate(const Options& o, int64_t images) {
  const double lr = std::min(*o.lr / 10, 1e-3 * std::sqrt(double(images) / 1024));
  std::string flags = fmt::format("--lr {:.2g}", lr);
  const double given = std::stod(flags.substr(5));
  if (o.warmup_lr > given) flags += fmt::format(" --warmup-lr {:.2g}", lr);
  if (o.min_lr > given) flags += fmt::format(" --min-lr {:.2g}", lr);
  return flags;
}

void set_or_add(bool set, const Tensor& from, Out to) {
  if (set)
    to.copy_(from);
  else
    add_into(from, to);
}

}  // namespace

Trainer::Trainer(const Options& options, tasks::Task& task, report::Console& console,
                 dist::Group& group)
    : options_(complete(options, task, group)),
      task_(task),
      console_(console),
      group_(group),
      epoch_steps_(task.batches() / options.grad_accum),
      schema_(chosen_by(task.schema(), options.eval_metric)),
      schedule_(task.schedule(total_steps()).value_or(cosine_schedule(options_, epoch_steps_))),
      optimizer_(task.parameters(), optimizer_settings_of(options_, total_steps())),
      graph_(task.parameters().device(), !options.eager),
      part_names_(task.loss_parts()),
      message_(zeros({2 + int64_t(part_names_.size())}, acc_dtype(task.parameters().dtype()),
                     task.parameters().device())),
      loss_(message_.slice(0, 1)),
      parts_(message_.slice(1, message_.numel() - 1)),
      stop_(message_.slice(message_.numel() - 1, message_.numel())),
      communicator_(group.alone() ? nullptr : &group.communicator(task.parameters().device())),
      chance_loss_(task.chance_loss()) {
  options_.model_ema_decay = optimizer_.settings().ema_decay;
  if (!std::holds_alternative<CosineSchedule>(schedule_))  // that of the options is checked there
    std::visit([](const auto& s) { s.validate(); }, schedule_);
  check(!schema_.empty(), "trainer: the task has no scores, of which the first chooses the best");
  const ReduceOrder order = parse_reduce_order(options.reduce_order);
  if (communicator_) {
    reducer_.emplace(*communicator_, order, dist::parse_wire(options.reduce_dtype), message_);
    slices_.emplace(task.parameters(), *reducer_,
                    nn::slice_table(task.parameters(), slice_elements(options)));
    reducer_->set_table(slices_->table(), task.parameters().grads());
  }
  if (order == ReduceOrder::fixed && options.grad_accum > 1) {
    grads_sum_.emplace(task.parameters().grads(), options.grad_accum);
    message_sum_.emplace(message_, options.grad_accum);
  }
  if (epoch_steps_ < 1)
    fail(ExitCode::usage,
         "--grad-accum: a step of {} batches of {} needs more images than the training set has; "
         "use fewer, or a smaller --batch-size",
         options.grad_accum, task.batch_size());
}

int64_t Trainer::total_epochs() const {
  return options_.steps ? (options_.steps + epoch_steps_ - 1) / epoch_steps_
                        : train::total_epochs(options_);
}

int64_t Trainer::unevaluated_epoch() const {
  return state_.epoch + (state_.evaluated && (state_.epoch_steps == epoch_steps_ || finished()));
}

bool Trainer::finished() const {
  const bool last = state_.epoch + 1 >= total_epochs() && state_.epoch_steps == epoch_steps_;
  return state_.evaluated && (last || out_of_patience() || out_of_steps());
}

bool Trainer::out_of_steps() const {
  return std::ranges::any_of(std::array{options_.steps, options_.max_steps},
                             [&](int64_t most) { return most && state_.step >= most; });
}

bool Trainer::evaluation_is_due() const {
  if (out_of_steps() || state_.epoch + 1 >= total_epochs()) return true;
  // The epoch has passed a multiple of the interval.
  const int64_t every = options_.eval_interval.value_or(1);
  return state_.step / every > (state_.step - state_.epoch_steps) / every;
}

void Trainer::next_epoch() { ++state_.epoch, state_.epoch_steps = 0, state_.loss = {}; }

bool Trainer::out_of_patience() const {
  const int64_t begin = state_.best_epoch < 0 ? first_epoch_ - 1 : state_.best_epoch;
  return options_.patience_epochs && state_.epoch_steps == epoch_steps_ &&
         state_.epoch - begin >= options_.patience_epochs;
}

bool Trainer::asked_to_stop() const { return communicator_ ? stopping_ : stop_signal() != 0; }

ExitCode Trainer::run(Outputs* outputs) {
  find_best(outputs);
  while (!finished()) {
    if (std::exchange(state_.evaluated, false) && state_.epoch_steps == epoch_steps_) next_epoch();
    const bool stopped = !train_epoch(outputs);
    if (!stopped && !evaluation_is_due()) {
      next_epoch();
      continue;
    }
    if (stopped || !evaluate_epoch(outputs)) {
      if (saved_step_ != state_.step) save_recovery(outputs);
      console_.line(fmt::format("{}: saved at step {}",
                                stop_signal() ? fmt::format("signal {}", stop_signal())
                                              : "another process was asked to stop",
                                state_.step));
      if (state_.skipped_in_a_row)
        console_.warning(
            fmt::format("the last {} steps had no finite numbers", state_.skipped_in_a_row));
      return ExitCode::interrupted;
    }
  }
  if (out_of_patience())
    console_.line(
        fmt::format("early stop: {} epochs without a better {} than {} (--patience-epochs)",
                    options_.patience_epochs, schema_[0].name, fixed(state_.best, 3)));
  if (!finite_evaluation_)
    fail_nonfinite("the run has ended with weights whose evaluation is not finite", outputs);
  if (state_.skipped && !optimizer_.updates)
    fail_nonfinite(fmt::format("none of {} steps had finite numbers", state_.step), outputs);
  return ExitCode::ok;
}

bool Trainer::plausible(double loss) const {
  return std::isfinite(loss) && (!chance_loss_ || loss <= kExploded * *chance_loss_);
}

void Trainer::save_recovery(Outputs* outputs) {
  if (outputs)
    group_.busy("saving a checkpoint",
                [&] { outputs->checkpoints.save_recovery(checkpoint(outputs->identity)); });
  saved_step_ = unproven_step_ = state_.step;
}

bool Trainer::gives_finite_losses(const Checkpoint& checkpoint) {
  // From there this process has already failed.
  if (checkpoint.state["step"] == restored_step_ && !any_sound_) return false;
  if (!first_not_finite(checkpoint).empty()) return false;
  fill(task_.parameters().values(), checkpoint, "");
  task_.start_epoch(0, 0);
  const autograd::NoGrad no_grad;
  const Tensor loss = task_.losses(task_.load_batch({})).total;
  return plausible(to_vector<double>(loss.to(Device{}).to(Dtype::f64))[0]);
}

void Trainer::fail_nonfinite(const std::string& reason, Outputs* outputs) {
  std::string message = "what rank 0 says of numbers that are not finite ends this one too";
  if (outputs)
    group_.busy("looking for weights that give finite losses",
                [&] { message = after_nonfinite(reason, *outputs); });
  group_.barrier("the end of a run without finite numbers");
  fail(ExitCode::nonfinite, "{}", message);
}

std::string Trainer::after_nonfinite(const std::string& reason, Outputs& outputs) {
  const auto good = outputs.checkpoints.fall_back(
      [&](const Checkpoint& checkpoint) { return gives_finite_losses(checkpoint); });
  if (!optimizer_.updates)
    return reason +
           "; no step of this run had any, so the learning rate is not to blame: look at the "
           "images, --mean, --std and --initial-checkpoint";
  const int64_t step = good ? good->checkpoint.state["step"].get<int64_t>() : -1;
  std::string message = reason;
  if (restored_step_ >= 0 && restored_step_ != step && !any_sound_)
    message += fmt::format("; the checkpoint of step {}, from which it went on, is not good",
                           restored_step_);
  if (good)
    message += fmt::format(
        "; the weights of step {} gave finite losses: go on from them with a smaller learning "
        "rate, --resume {} {}",
        step, good->path.string(), smaller_rate(options_, images_a_step(options_)));
  else
    message += fmt::format(
        "; no checkpoint of this run is known to be good: begin again with a smaller learning "
        "rate, {}",
        smaller_rate(options_, images_a_step(options_)));
  return message;
}

void Trainer::attach(nn::Reducer& reducer, int64_t slice_elements) {
  slices_.emplace(task_.parameters(), reducer, nn::slice_table(task_.parameters(), slice_elements));
}

double Trainer::learning_rate(int64_t step) const {
  return sg::learning_rate(schedule_, state_.epoch, step);
}

double Trainer::try_step() {
  task_.start_epoch(state_.epoch, state_.epoch_steps * options_.grad_accum);
  return step().seconds;
}

std::vector<int64_t> Trainer::slice_ends() const {
  std::vector<int64_t> ends;
  if (slices_)
    for (const auto& range : slices_->table()) ends.push_back(range.end);
  return ends;
}

void Trainer::set_slices(const std::vector<int64_t>& ends) {
  slices_.emplace(task_.parameters(), *reducer_, nn::slice_table(task_.parameters(), ends));
  reducer_->set_table(slices_->table(), task_.parameters().grads());
}

bool Trainer::train_epoch(Outputs* outputs) {
  task_.start_epoch(state_.epoch, state_.epoch_steps * options_.grad_accum);
  epoch_ = {};
  while (state_.epoch_steps < epoch_steps_ && !out_of_steps()) {
    if (asked_to_stop()) return false;
    const Step done = step();
    if (done.applied && plausible(done.loss)) {
      any_sound_ = true;
      if (outputs && unproven_step_ == state_.step) outputs->checkpoints.prove(state_.step);
    }
    ++state_.step, ++state_.epoch_steps;
    state_.seconds += done.seconds;
    epoch_.add(done);
    if (std::isfinite(done.loss)) state_.loss.add(done.loss);
    count_skip(done);
    log_step(done, outputs);
    if (!std::exchange(told_convolutions_, true)) tell_convolutions();
    if (state_.skipped_in_a_row >= kMaxSkips)
      fail_nonfinite(
          fmt::format("{} steps in a row without finite numbers, the last one at step {}",
                      kMaxSkips, state_.step),
          outputs);
    // What is skipped leaves the weights as they were; they may be to blame.
    const int64_t interval = options_.recovery_interval;
    if (done.applied && interval && state_.step % interval == 0) save_recovery(outputs);
  }
  return !asked_to_stop();
}

Trainer::Step Trainer::step() {
  const auto begin = Clock::now();
  Step s{.lr = learning_rate(state_.step)};
  const int64_t passes = options_.grad_accum, all_passes = passes * group_.ranks();
  const double ema_decay = *options_.model_ema_decay;
  optimizer_.prepare(
      s.lr, all_passes,
      options_.model_ema_warmup ? nn::warm_ema_decay(ema_decay, state_.step) : ema_decay);
  if (communicator_) {
    communicator_->times();  // forgets what evaluation took
    group_.progress(fmt::format("step {}", state_.step));
    stop_.fill_(stop_signal() ? 1 : 0);
  }
  for (int64_t i = 0; i < passes; ++i) {
    const int64_t place = group_.rank() * passes + i;  // among the batches of all ranks
    const tasks::Batch batch = task_.load_batch({state_.step, place * task_.batch_size()});
    s.waited += batch.waited;
    std::vector<uint64_t> key = batch.key();
    if (grads_sum_)
      key.push_back(uint64_t(i));
    else
      key.insert(key.end(), {i == 0, i + 1 == passes});
    if (batch.any_shape)
      micro_step(batch, i);
    else
      graph_.run(key, [&] { micro_step(batch, i); });
  }
  task_.prefetch();
  const auto outcome = optimizer_.finish();
  if (communicator_) {
    communicator_->check_peers();  // a captured step does not say that a rank is lost
    stopping_ = stop_.item() > 0;
    s.communication = communicator_->times();
  }
  s.loss = outcome.loss / double(all_passes);
  s.grad_norm = outcome.grad_norm, s.applied = outcome.applied;
  s.seconds = since(begin);
  return s;
}

void Trainer::micro_step(const tasks::Batch& batch, int64_t i) {
  const bool first = i == 0 || grads_sum_, last = i + 1 == options_.grad_accum;
  // Whether the leaves hold gradients of an earlier micro-step is set here: that one may have been
  // a graph replay, in which no gradient rule ran on the host.
  if (first)
    task_.parameters().clear_grads();
  else
    for (const nn::Parameter* p : task_.parameters().in_order()) autograd::keep_grad(p->value);
  const tasks::Losses losses = task_.losses(batch);
  check(losses.parts.size() == part_names_.size(), "task: {} names of parts of the loss, {} parts",
        part_names_.size(), losses.parts.size());
  set_or_add(first, losses.total.detach(), loss_);
  for (int64_t k = 0; k < parts_.numel(); ++k) {
    Tensor part = parts_.slice(k, k + 1);
    set_or_add(first, losses.parts[size_t(k)].detach(), part);
  }
  if (last && slices_ && !grads_sum_)
    slices_->backward(batch.shapes(), losses.total);
  else
    autograd::backward(losses.total);
  // Zeroed now, so that the next micro-step can add to every gradient.
  task_.parameters().zero_unreached_grads();
  if (grads_sum_) {
    grads_sum_->add(i, task_.parameters().grads());
    message_sum_->add(i, message_);
    if (last && slices_) slices_->send();
  }
  if (last) optimizer_.update(loss_);
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
  std::optional<tasks::Scores> scores;
  group_.busy("evaluating", [&] {
    scores = evaluate_with_progress(
        title, [&](const tasks::Task::Progress& progress) { return task_.evaluate(progress); },
        schema_, options_.log_interval, console_);
  });
  if (scores) console_.detail(" * " + describe(schema_, *scores));
  return scores;
}

bool Trainer::evaluate_epoch(Outputs* outputs) {
  const auto begin = Clock::now();
  const std::optional<tasks::Scores> model = evaluate("Test");
  if (!model) return false;
  std::optional<tasks::Scores> chosen = model;
  if (optimizer_.ema()) with_ema([&] { chosen = evaluate("Test (EMA)"); });
  if (!chosen) return false;
  eval_seconds_ = since(begin);
  state_.seconds += eval_seconds_;

  finite_evaluation_ = model->finite();
  if (optimizer_.ema() && model->finite() && !chosen->finite()) {
    console_.warning(
        "the averaged weights give no finite numbers; they begin again with the weights");
    optimizer_.reset_ema();
  }

  nlohmann::json row{{"epoch", state_.epoch},
                     {"step", state_.step},
                     {"lr", learning_rate(std::max<int64_t>(state_.step - 1, 0))},
                     {"train_loss", state_.loss.value()},
                     {"skipped_in_a_row", state_.skipped_in_a_row},
                     {"seconds", state_.seconds}};
  row["data_share"] = 0.0;  // of an epoch that was complete already
  epoch_.write(row, !communicator_);
  row.erase("data_seconds");
  const auto data_share = row["data_share"].get<double>();
  // Outputs that are no numbers have no scores, an accuracy of 0 would be made up; and an epoch
  // whose weights are not saved has none to be compared.
  const auto add = [&](const std::string& prefix, const tasks::Scores& scores) {
    const bool counts = scores.finite() && model->finite();
    for (const auto& [name, value] : scores.values) row[prefix + name] = counts ? value : NAN;
  };
  add("eval_", *chosen);
  if (optimizer_.ema()) add("eval_model_", *model);
  if (outputs) outputs->log.add(std::move(row));
  find_best(outputs);
  const double loss = state_.loss.value();
  console_.line(fmt::format(
      "Epoch {}/{}: train loss {}, {}{}, {}{}{}", state_.epoch + 1, total_epochs(),
      std::isfinite(loss) ? fixed(loss, 3) : "none (no finite step)",
      optimizer_.ema() ? "EMA " : "", describe(schema_, *chosen), report::duration(state_.seconds),
      state_.best_epoch == state_.epoch ? ", best so far" : "",
      data_share < kNotableWait
          ? ""
          : fmt::format("; steps waited {:.0f} % of their time for data (--workers {})",
                        100 * data_share, loading_threads(options_))));
  warn_of_chance();

  state_.evaluated = true;
  save_epoch(*model, *chosen, outputs);
  if (outputs && outputs->report) group_.busy("writing the report", outputs->report);
  return true;
}

void Trainer::find_best(const Outputs* outputs) {
  const ScoreInfo& score = schema_[0];
  if (const auto* row = outputs ? report::best_row(outputs->log.rows(), score) : nullptr) {
    const double value = row->at("eval_" + score.name).get<double>();
    // The log of a run that goes on in another folder lacks the epochs before.
    if (state_.best_epoch < 0 || improves(score, value, state_.best))
      state_.best = value, state_.best_epoch = row->at("epoch").get<int64_t>();
  }
  if (communicator_)
    set_state(nlohmann::json::parse(group_.broadcast("the best epoch", state_json().dump())));
}

void Trainer::save_epoch(const tasks::Scores& model, const tasks::Scores& chosen,
                         Outputs* outputs) {
  if (!model.finite()) {
    console_.warning(
        fmt::format("epoch {} is not saved: its evaluation is not finite", state_.epoch + 1));
    return;
  }
  if (!chosen.finite() || state_.skipped_in_a_row) {
    save_recovery(outputs);
  } else {
    const ScoreInfo& score = schema_[0];  // the folder's metric is greater for what is better
    if (outputs)
      group_.busy("saving a checkpoint", [&] {
        outputs->checkpoints.save(checkpoint(outputs->identity),
                                  (score.more_is_better ? 1 : -1) * chosen[score.name]);
      });
    saved_step_ = state_.step;
  }
  const auto loss = std::ranges::find(schema_, "loss", &ScoreInfo::name);
  if (state_.skipped_in_a_row || (loss != schema_.end() && !plausible(model["loss"]))) return;
  any_sound_ = true;
  if (outputs) outputs->checkpoints.prove(state_.step);
}

void Trainer::warn_of_chance() const {
  const double loss = state_.loss.value();
  const bool rising = state_.epoch == 0 && learning_rate(0) < *options_.lr / 2;  // warm-up
  if (!chance_loss_ || rising || !(loss >= *chance_loss_)) return;
  console_.warning(
      fmt::format("the loss of this epoch, {:.3f}, is not better than that of chance, {:.3f}: the "
                  "learning rate "
                  "{:.1e} may not fit steps of {} images; --lr-base scales it by them",
                  loss, *chance_loss_, learning_rate(std::max<int64_t>(state_.step - 1, 0)),
                  images_a_step(options_)));
}

}  // namespace sg::train
