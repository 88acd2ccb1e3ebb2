// What a run learns: how samples become losses, and how the result is evaluated.
//
// Trainer, checkpoints, run log and report know a task by this interface alone: batches, losses
// with named parts, scores with a schema. docs/architecture.md says how to add one.
#pragma once
#include <functional>
#include <optional>
#include <string>

#include "core/findings.h"
#include "core/scores.h"
#include "nn/optim/schedule.h"
#include "nn/parameters.h"
#include "tasks/metrics.h"

namespace sg::tasks {

// The position of a batch in the run, by which random draws are keyed. It does not depend on how a
// step is split into micro-steps or over processes.
struct BatchPosition {
  int64_t step = 0;          // from 0
  int64_t first_sample = 0;  // of the batch, within the step
};

// Images of any size, padded at the bottom and right to the largest of the batch.
struct Batch {
  BatchPosition position;
  Tensor images;                // (B, H, W, C), padded to the largest
  Tensor valid;                 // (B, 2) i32: height and width; undefined where none is padded
  std::vector<Tensor> targets;  // what losses are measured against, of any shape
  double waited = 0;            // seconds until it was there
  // losses() decides on the host, such as which boxes of an image count: a step is not captured. It
  // writes each gradient as often whatever the shapes are.
  bool any_shape = false;

  // Shapes of the tensors: what decides which operations a step consists of; with any_shape
  // nothing.
  std::vector<uint64_t> shapes() const;
  // The shapes and addresses of the tensors: batches of one key can replay one captured step
  // (core/graph.h).
  std::vector<uint64_t> key() const;
};

// Means over the samples of a batch.
struct Losses {
  Tensor total;               // (1), on the tape, of the dtype acc_dtype(parameters)
  std::vector<Tensor> parts;  // (1) each, of the same dtype, in the order of loss_parts()
};

class Task {
 public:
  virtual ~Task() = default;
  virtual nn::ParameterStore& parameters() = 0;

  // Batches of an epoch, and samples in each.
  virtual int64_t batches() const = 0;
  virtual int64_t batch_size() const = 0;
  // The batches of an epoch, their sizes and their order are a function of (seed, epoch) alone.
  virtual void start_epoch(int64_t epoch, int64_t first_batch) = 0;

  // The next batch, on the device; valid until load_batch() is called again. For a step to be
  // captured, batches of one shape lie in the same memory.
  virtual Batch load_batch(const BatchPosition& position) = 0;
  // Where a device can, its work is captured and replayed for later batches of the same key():
  // it depends on the contents of tensors that load_batch() filled alone, and does not wait.
  virtual Losses losses(const Batch& batch) = 0;
  // Names of the parts of the loss; they are logged beside the total.
  virtual std::vector<std::string> loss_parts() const { return {}; }
  // Called while the device computes: begins to fetch the batch after.
  virtual void prefetch() {}

  // The mean loss of outputs that ignore the images (chance), where the task can tell. Where an
  // epoch is not better the trainer warns, and weights of a far higher loss are not good ones.
  virtual std::optional<double> chance_loss() const { return {}; }

  // Where it has one of its own; else the cosine of the options.
  virtual std::optional<Schedule> schedule(int64_t /*total_steps*/) const { return {}; }

  // What evaluate() measures.
  virtual ScoreSchema schema() const = 0;
  // Called with the batches done, of how many, and the scores so far, or none where they are of
  // the whole set alone; false gives up.
  using Progress = std::function<bool(int64_t done, int64_t total, const Scores& so_far)>;
  // The parameters as they are, on the whole validation set; nothing where given up.
  virtual std::optional<Scores> evaluate(const Progress& progress) = 0;
  // What the report shows beside the scores of the last evaluation.
  virtual Findings findings() const { return {}; }
};

}  // namespace sg::tasks
