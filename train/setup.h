// A task as a run needs it: what the options mean for its data, its model and its losses. Each task
// has one in setups/; train/ knows nothing else of it.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/findings.h"
#include "dist/group.h"
#include "nn/parameters.h"
#include "tasks/task.h"
#include "train/options.h"
#include "train/step_cost.h"

namespace sg::train {

// Its members are called in the order in which they stand here. `options` are those of the run,
// more and more of them filled in.
class Setup {
 public:
  virtual ~Setup() = default;

  // Before anything is opened: throws ExitCode::usage naming the flag, what is allowed and what was
  // found.
  virtual void validate(const Options& options) const = 0;

  virtual void open_data(const Options& options) = 0;
  // What all ranks must have alike; its keys are for people.
  virtual nlohmann::json data_to_agree_on() const = 0;
  virtual int64_t training_images() const = 0;

  // Of a resumed run: options, as args.json has them, that keep the checkpoint's value where none
  // is given. Their default follows another flag, which may have changed.
  virtual nlohmann::json adopted(const Options& /*options*/,
                                 const nlohmann::json& /*before*/) const {
    return nlohmann::json::object();
  }
  // Fills in the options that the data and the model decide.
  virtual void resolve(Options& options) = 0;

  // The model, its parameters declared and grouped; the caller allocates and initializes them.
  virtual nn::ParameterStore& make_model(const Options& options) = 0;
  // Those of --initial-checkpoint. Returns a line on which weights were taken, from where.
  virtual std::string load_initial_weights(const Options& options) = 0;
  // What a training step costs, measured on the CPU; and the image side that the model is made for.
  virtual StepCost cost(const Options& options) = 0;
  virtual int64_t usual_side() const = 0;

  virtual tasks::Task& make_task(const Options& options, dist::Group& group) = 0;

  // The first lines of a run: "sgformer_s, 22.55 million parameters, ..." and lines on the data.
  virtual std::string introduce_model(const Options& options) const = 0;
  virtual std::vector<std::string> introduce_data(const Options& options) const = 0;
  // What checkpoints keep of model and data: "model", "classes".
  virtual nlohmann::json identity() const = 0;
  // A sentence of the report, and images that show what the model does with them. Throws
  // ExitCode::nonfinite where the weights are damaged.
  virtual std::string describe_data(const Options& options) const = 0;
  virtual Gallery samples() const = 0;
};

}  // namespace sg::train
