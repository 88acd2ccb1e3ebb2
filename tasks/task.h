// What a run learns: how samples become a loss, and how the result is judged.
#pragma once
#include <functional>
#include <optional>
#include <string>

#include "nn/parameters.h"
#include "tasks/metrics.h"

namespace sg::tasks {

class Task {
 public:
  virtual ~Task() = default;
  virtual nn::ParameterStore& parameters() = 0;

  // Batches of an epoch, and samples in each.
  virtual int64_t batches() const = 0;
  virtual int64_t batch_size() const = 0;
  // The batches of an epoch and their order are a function of (seed, epoch) alone.
  virtual void start_epoch(int64_t epoch, int64_t first_batch) = 0;

  // Fills the tensors that loss() reads with the next batch; returns the seconds until it was
  // there. `step` and the place of the batch's first sample within it key what is drawn at random.
  virtual double stage(int64_t step, int64_t first_sample) = 0;
  // The mean loss (1) of the staged batch, on the tape. Where a device can, its work is recorded
  // and started again for later batches (core/graph.h): it depends on what stage() filled alone.
  virtual Tensor loss() = 0;
  // Called while the device computes: begins to fetch the batch after.
  virtual void prefetch() {}

  // Called with the batches done, of how many, and the scores so far; false gives up.
  using Progress = std::function<bool(int64_t done, int64_t total, const Scores& so_far)>;
  // The parameters as they are, on the whole validation set; nothing where given up.
  virtual std::optional<Scores> evaluate(const Progress& progress) = 0;
  // The score by which the best checkpoint is chosen; more is better.
  virtual std::string metric() const = 0;
  // For people: "Acc@1 83.200 Acc@5 96.500 loss 0.812".
  virtual std::string describe(const Scores& scores) const = 0;
};

}  // namespace sg::tasks
