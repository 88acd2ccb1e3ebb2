#include "setups/setups.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/text.h"
#include "setups/classification.h"
#include "setups/detection.h"
#include "setups/segmentation.h"
#include "train/agreement.h"

namespace sg::setups {
namespace {

struct Task {
  const char* name;
  std::unique_ptr<train::Setup> (*setup)();
  train::Options (*defaults)(const Choice&);
  std::span<const std::string_view> options;  // that not every task has
};

template <class S>
std::unique_ptr<train::Setup> make() {
  return std::make_unique<S>();
}

constexpr Task kTasks[] = {
    {"classification", make<ClassificationSetup>,
     [](const Choice& c) { return classification_defaults(c.model); }, kClassificationOptions},
    {"segmentation", make<SegmentationSetup>,
     [](const Choice& c) { return segmentation_defaults(c.model, c.head); }, kSegmentationOptions},
    {"detection", make<DetectionSetup>, [](const Choice& c) { return detection_defaults(c.model); },
     kDetectionOptions},
};

const Task& find(std::string_view name) {
  for (const Task& task : kTasks)
    if (task.name == name) return task;
  const std::vector<std::string> names = task_names();
  fail(ExitCode::usage, "--task: expected {}, found '{}'{}", fmt::join(names, " or "), name,
       did_you_mean(name, names));
}

}  // namespace

std::vector<std::string> task_names() {
  std::vector<std::string> names;
  for (const Task& task : kTasks) names.emplace_back(task.name);
  return names;
}

void resolve_classes(train::Options& o, const data::ImageSet& training) {
  const int64_t classes = training.num_classes();
  if (o.num_classes && *o.num_classes < classes)
    fail(ExitCode::usage, "--num-classes: the data has {} classes, found {}", classes,
         *o.num_classes);
  o.num_classes = o.num_classes.value_or(classes);
}

nlohmann::json sets_to_agree_on(const data::ImageSet& training, const data::ImageSet& validation) {
  return {{"training", train::listing_to_agree_on(training)},
          {"validation", train::listing_to_agree_on(validation)},
          {"classes", training.class_names()}};
}

std::unique_ptr<train::Setup> make_setup(std::string_view task) { return find(task).setup(); }

void refuse_other_tasks(const train::Options& options, std::span<const Advice> advice) {
  const nlohmann::json given = to_json(options), usual = to_json(default_options(choice(options)));
  const std::span<const std::string_view> own = find(options.task).options;
  for (const Task& task : kTasks)
    for (const std::string_view option : task.options) {
      if (std::ranges::find(own, option) != own.end()) continue;
      std::string key(option);
      std::ranges::replace(key, '-', '_');
      if (given.value(key, nlohmann::json()) == usual.value(key, nlohmann::json())) continue;
      const auto found = std::ranges::find(advice, option, &Advice::option);
      fail(ExitCode::usage, "--{}: of --task {}, found with --task {}{}", option, task.name,
           options.task, found == advice.end() ? "" : fmt::format("; {}", found->text));
    }
}

train::Options default_options(const Choice& choice) {
  train::Options options = find(choice.task).defaults(choice);
  options.task = choice.task;
  return options;
}

}  // namespace sg::setups
