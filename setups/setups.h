// The tasks that sgtrain knows.
#pragma once
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/image_set.h"
#include "train/setup.h"

namespace sg::setups {

// What decides the defaults of all other options.
struct Choice {
  std::string task = train::Options().task, model = train::Options().model, head{};
};

inline Choice choice(const train::Options& o) { return {o.task, o.model, o.head}; }

// Those of --task. Throws ExitCode::usage naming the nearest.
std::unique_ptr<train::Setup> make_setup(std::string_view task);
std::vector<std::string> task_names();

// What to do in place of an option, by its name without the dashes.
struct Advice {
  std::string_view option, text;
};
// Throws ExitCode::usage where an option that other tasks have, but not this one, is not as by
// default: it would change nothing. The error has the advice on it, where there is one.
void refuse_other_tasks(const train::Options& options, std::span<const Advice> advice);

// --num-classes, or as many as the data has. Throws ExitCode::usage where the data has more.
void resolve_classes(train::Options& options, const data::ImageSet& training);
// Of both sets, for Setup::data_to_agree_on().
nlohmann::json sets_to_agree_on(const data::ImageSet& training, const data::ImageSet& validation);

// The recipe of a task and model: the published one, or for sgformer_nano one that takes minutes.
train::Options default_options(const Choice& choice);
inline train::Options default_options(std::string_view model) {
  return default_options(Choice{.model = std::string(model)});
}

}  // namespace sg::setups
