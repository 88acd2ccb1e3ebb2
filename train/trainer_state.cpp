// The trainer's part of a checkpoint: written by checkpoint(), read by restore().

#include <cmath>

#include "nn/state.h"
#include "ops/conv2d/conv2d.h"
#include "sgformer/weights.h"
#include "train/trainer.h"

namespace sg::train {
namespace {

std::vector<NamedTensor> named(const nn::ParameterStore& parameters, const Tensor& flat) {
  std::vector<NamedTensor> tensors;
  for (const std::string& name : parameters.names())
    tensors.emplace_back(name, parameters.get(flat, name));
  return tensors;
}

void append(std::vector<NamedTensor>& to, std::vector<NamedTensor> more) {
  std::move(more.begin(), more.end(), std::back_inserter(to));
}

}  // namespace

Checkpoint Trainer::checkpoint(const nlohmann::json& identity) const {
  const nn::ParameterStore& parameters = task_.parameters();
  Checkpoint c;
  c.tensors = nn::state_of(parameters);
  append(c.tensors, prefixed(kMoment1, named(parameters, optimizer_.moment1())));
  append(c.tensors, prefixed(kMoment2, named(parameters, optimizer_.moment2())));
  if (optimizer_.ema()) append(c.tensors, prefixed(kEma, named(parameters, optimizer_.ema())));
  c.state = identity;
  c.state.update(state_json());
  c.state.update({{"updates", optimizer_.updates},
                  {"ranks", group_.ranks()},
                  {"images_a_step", images_a_step(options_)},
                  {"convolutions", conv2d_choices(parameters.device())}});
  if (slices_) c.state["gradient_slices"] = slice_ends();
  return c;
}

nlohmann::json Trainer::state_json() const {
  nlohmann::json s{{"step", state_.step},
                   {"epoch", state_.epoch},
                   {"epoch_steps", state_.epoch_steps},
                   {"evaluated", state_.evaluated},
                   {"skipped", state_.skipped},
                   {"skipped_in_a_row", state_.skipped_in_a_row},
                   {"loss_sum", state_.loss.sum},
                   {"loss_weight", state_.loss.weight},
                   {"seconds", state_.seconds}};
  if (state_.best_epoch >= 0) s["best"] = state_.best, s["best_epoch"] = state_.best_epoch;
  return s;
}

void Trainer::set_state(const nlohmann::json& s) {
  s.at("step").get_to(state_.step);
  s.at("epoch").get_to(state_.epoch);
  s.at("epoch_steps").get_to(state_.epoch_steps);
  s.at("evaluated").get_to(state_.evaluated);
  s.at("skipped").get_to(state_.skipped);
  s.at("skipped_in_a_row").get_to(state_.skipped_in_a_row);
  s.at("loss_sum").get_to(state_.loss.sum);
  s.at("loss_weight").get_to(state_.loss.weight);
  s.at("seconds").get_to(state_.seconds);
  state_.best = s.value("best", state_.best);
  state_.best_epoch = s.value("best_epoch", state_.best_epoch);
}

void Trainer::share() {
  if (!communicator_) return;
  nlohmann::json mine = state_json();
  mine.update({{"updates", optimizer_.updates},
               {"restored_step", restored_step_},
               {"first_epoch", first_epoch_},
               {"gradient_slices", slice_ends()}});
  const auto shared = nlohmann::json::parse(group_.broadcast("where the run is", mine.dump()));
  set_state(shared);
  shared.at("updates").get_to(optimizer_.updates);
  shared.at("restored_step").get_to(restored_step_);
  shared.at("first_epoch").get_to(first_epoch_);
  unproven_step_ = restored_step_;
  set_slices(shared.at("gradient_slices").get<std::vector<int64_t>>());
  nn::ParameterStore& parameters = task_.parameters();
  for (Tensor* tensor : {&parameters.values(), &parameters.buffers(), &optimizer_.moment1(),
                         &optimizer_.moment2(), &optimizer_.ema()})
    if (*tensor) communicator_->broadcast("weights and moments", *tensor);
  parameters.use_values(parameters.values());  // the bf16 copy follows
}

void Trainer::fill(Tensor& flat, const Checkpoint& from, std::string_view prefix) {
  nn::ParameterStore& parameters = task_.parameters();
  auto expected = nn::state_shapes(parameters);
  // Moments and averages are of the parameters alone.
  if (!prefix.empty()) expected.resize(parameters.names().size());
  const std::vector<NamedTensor> found = part(from.tensors, prefix);
  if (const sgformer::Differences d = sgformer::differences(found, expected); !d.none())
    fail(ExitCode::checkpoint, "the checkpoint does not fit the model{}:\n{}",
         prefix.empty() ? "" : fmt::format(" ({}*)", prefix), d.table());
  if (prefix.empty()) return nn::set_state(parameters, found);
  for (const auto& [name, tensor] : found) parameters.set(flat, name, tensor);
}

void Trainer::start_at(int64_t epoch) {
  state_.epoch = epoch, state_.step = epoch * epoch_steps_;
  state_.epoch_steps = 0, state_.evaluated = false, state_.loss = {};
  if (state_.best_epoch >= epoch) state_.best = NAN, state_.best_epoch = -1;
  if (restored_step_ >= 0) unproven_step_ = restored_step_ = state_.step;
  first_epoch_ = epoch;
}

void Trainer::restore(const Checkpoint& c, bool optimizer_state) {
  if (const std::string name = first_not_finite(c); !name.empty())
    fail(ExitCode::checkpoint,
         "the checkpoint is not good: tensor '{}' holds values that are not finite; go on from an "
         "earlier one",
         name);
  fill(task_.parameters().values(), c, "");
  if (optimizer_state) {
    fill(optimizer_.moment1(), c, kMoment1);
    fill(optimizer_.moment2(), c, kMoment2);
  }
  const std::vector<NamedTensor> averaged = part(c.tensors, kEma);
  if (const bool none = averaged.empty();
      optimizer_.ema() && (none || !first_not_finite(averaged).empty())) {
    console_.warning(
        fmt::format("the checkpoint has no {}averaged weights; they begin with the "
                    "weights",
                    none ? "" : "finite "));
    optimizer_.reset_ema();
  } else if (optimizer_.ema()) {
    fill(optimizer_.ema(), c, kEma);
  }
  try {
    set_state(c.state);
    if (optimizer_state) c.state.at("updates").get_to(optimizer_.updates);
    convolutions_before_ = c.state.value("convolutions", convolutions_before_);
    if (slices_ && !options_.bucket_cap_mb && c.state.contains("gradient_slices"))
      set_slices(c.state["gradient_slices"].get<std::vector<int64_t>>());
  } catch (const nlohmann::json::exception& e) {
    fail(ExitCode::checkpoint, "the checkpoint's state is incomplete: {}", e.what());
  }
  if (state_.epoch_steps > epoch_steps_)
    fail(ExitCode::checkpoint, "the checkpoint is {} steps into an epoch, which here has {}",
         state_.epoch_steps, epoch_steps_);
  unproven_step_ = restored_step_ = state_.step;
  first_epoch_ = unevaluated_epoch();
}

}  // namespace sg::train
