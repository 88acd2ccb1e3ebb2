// What a checkpoint holds of a trainer, and back.
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
  c.tensors = named(parameters, parameters.values());
  append(c.tensors, prefixed(kMoment1, named(parameters, optimizer_.moment1())));
  append(c.tensors, prefixed(kMoment2, named(parameters, optimizer_.moment2())));
  if (optimizer_.ema()) append(c.tensors, prefixed(kEma, named(parameters, optimizer_.ema())));
  c.state = identity;
  c.state.update({{"step", at_.step},
                  {"updates", optimizer_.updates},
                  {"epoch", at_.epoch},
                  {"epoch_steps", at_.epoch_steps},
                  {"evaluated", at_.evaluated},
                  {"skipped", at_.skipped},
                  {"skipped_in_a_row", at_.skipped_in_a_row},
                  {"loss_sum", at_.loss.sum},
                  {"loss_weight", at_.loss.weight},
                  {"seconds", at_.seconds},
                  {"ranks", 1}});
  if (at_.best_epoch >= 0) c.state["best"] = at_.best, c.state["best_epoch"] = at_.best_epoch;
  return c;
}

void Trainer::restore(const Checkpoint& c) {
  nn::ParameterStore& parameters = task_.parameters();
  std::vector<std::pair<std::string, Shape>> expected;
  for (const std::string& name : parameters.names())
    expected.emplace_back(name, parameters.part(name).official);
  const auto fill = [&](std::string_view prefix, const Tensor& flat) {
    const std::vector<NamedTensor> found = part(c.tensors, prefix);
    if (const sgformer::Differences d = sgformer::differences(found, expected); !d.none())
      fail(ExitCode::checkpoint, "the checkpoint does not fit the model{}:\n{}",
           prefix.empty() ? "" : fmt::format(" ({}*)", prefix), d.table());
    for (const auto& [name, tensor] : found) parameters.set(flat, name, tensor);
  };
  fill("", parameters.values());
  fill(kMoment1, optimizer_.moment1());
  fill(kMoment2, optimizer_.moment2());
  if (optimizer_.ema() && part(c.tensors, kEma).empty()) {
    console_.warning("the checkpoint has no averaged weights; they begin with the weights");
    optimizer_.reset_ema();
  } else if (optimizer_.ema()) {
    fill(kEma, optimizer_.ema());
  }
  try {
    const nlohmann::json& s = c.state;
    s.at("step").get_to(at_.step);
    s.at("updates").get_to(optimizer_.updates);
    s.at("epoch").get_to(at_.epoch);
    s.at("epoch_steps").get_to(at_.epoch_steps);
    s.at("evaluated").get_to(at_.evaluated);
    s.at("skipped").get_to(at_.skipped);
    s.at("skipped_in_a_row").get_to(at_.skipped_in_a_row);
    s.at("loss_sum").get_to(at_.loss.sum);
    s.at("loss_weight").get_to(at_.loss.weight);
    s.at("seconds").get_to(at_.seconds);
    at_.best = s.value("best", at_.best), at_.best_epoch = s.value("best_epoch", at_.best_epoch);
  } catch (const nlohmann::json::exception& e) {
    fail(ExitCode::checkpoint, "the checkpoint's state is incomplete: {}", e.what());
  }
  if (at_.epoch_steps > epoch_steps_)
    fail(ExitCode::checkpoint, "the checkpoint is {} steps into an epoch, which here has {}",
         at_.epoch_steps, epoch_steps_);
}

}  // namespace sg::train
