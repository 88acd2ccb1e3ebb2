// The training loop.
//
// An epoch has as many steps as its batches fill; a step is --grad-accum batches and one update of
// weights and EMA. Intervals, --steps and --max-steps count steps. After an epoch, each or as
// --eval-interval says, the model and its EMA are evaluated and a checkpoint is written. What a
// step computes depends on the checkpointed state and (seed, epoch, step) alone, so a run that was
// stopped and resumed has the bits of one that never was.
//
// The ranks of a group each take a part of a step's batches, and update the same weights by the
// sum of their gradients. Rank 0 alone writes and speaks. Losses and scores are those of all.
#pragma once
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>

#include "core/graph.h"
#include "dist/alone.h"
#include "nn/gradient_slices.h"
#include "nn/optim/optimizer.h"
#include "nn/optim/schedule.h"
#include "report/console.h"
#include "report/run_log.h"
#include "tasks/task.h"
#include "train/checkpoint_folder.h"
#include "train/gradient_reducer.h"
#include "train/options.h"

namespace sg::train {

constexpr int64_t kMaxSkips = 10;  // steps without finite numbers, in a row, before the run ends
// Weights whose loss is this many times that of chance have exploded, finite or not.
constexpr double kExploded = 10;

// Where a run is.
struct TrainState {
  int64_t step = 0;         // steps done, those skipped included
  int64_t epoch = 0;        // in progress
  int64_t epoch_steps = 0;  // of them in this epoch
  bool evaluated = false;   // after the last step
  int64_t skipped = 0, skipped_in_a_row = 0;
  tasks::Mean loss;         // of this epoch
  double seconds = 0;       // of training and evaluating, over all processes of the run
  double best = NAN;        // score of an epoch, the first of the task's schema
  int64_t best_epoch = -1;  // none yet
};

// Where a run writes.
struct Outputs {
  report::RunLog log;
  CheckpointFolder checkpoints;
  nlohmann::json identity;       // of the run, kept in every checkpoint
  std::function<void()> report;  // called when an epoch has been evaluated
};

class Trainer {
 public:
  // Collective, as are share(), run() and try_step().
  Trainer(const Options& options, tasks::Task& task, report::Console& console,
          dist::Group& group = dist::alone());

  // Without the optimizer's state its moments begin anew.
  void restore(const Checkpoint& checkpoint, bool optimizer_state = true);
  // Moves to the begin of an epoch, counted from 0.
  void start_at(int64_t epoch);
  // What rank 0 has, weights and all, on every rank.
  void share();
  Checkpoint checkpoint(const nlohmann::json& identity) const;
  const TrainState& state() const { return state_; }
  // Those of the task and the group, with the learning rate, warm-up and decay of the EMA that it
  // chose where none was given.
  const Options& options() const { return options_; }
  // The task's, with the one of --eval-metric, which chooses the best, first.
  const ScoreSchema& schema() const { return schema_; }
  int64_t epoch_steps() const { return epoch_steps_; }
  // The last epoch of a run of --steps may be shorter than the others.
  int64_t total_epochs() const;
  int64_t total_steps() const {
    return options_.steps ? options_.steps : epoch_steps_ * total_epochs();
  }
  const Schedule& schedule() const { return schedule_; }
  bool finished() const;
  // The first epoch whose final evaluation is still to come; the run log keeps those before it.
  int64_t unevaluated_epoch() const;

  // To the end, or until a signal asks to stop: then ExitCode::interrupted, and the newest
  // checkpoint is where it stopped. Throws ExitCode::nonfinite after kMaxSkips, and where the run
  // ends without weights that give finite numbers. `outputs` is null on all ranks but 0.
  ExitCode run(Outputs* outputs);

  // Before the first step: slices of the gradient go to `reducer` as they are completed.
  void attach(nn::Reducer& reducer, int64_t slice_elements = nn::kSliceElements);
  // Where they end, in elements of the flat buffer; none of a process alone.
  std::vector<int64_t> slice_ends() const;

  // For a trial: does the first step of the position's epoch and returns the seconds it took.
  double try_step();

  // Runs f with the averaged weights in the model; with the weights themselves where there are
  // none.
  void with_ema(const std::function<void()>& f);

 private:
  struct Step {
    double loss = 0, grad_norm = 0, lr = 0, seconds = 0, waited = 0;
    dist::CommunicationTimes communication;
    bool applied = true;
  };
  bool train_epoch(Outputs* outputs);  // false when asked to stop
  // Whether the run ends here: --steps or --max-steps are done.
  bool out_of_steps() const;
  bool evaluation_is_due() const;  // at the end of an epoch
  void next_epoch();
  Step step();
  // Forward and backward of batch i of a step, and after the last one the update.
  void micro_step(const tasks::Batch& batch, int64_t i);
  // This process is to stop, or, of several, one of them is, as the last step told all.
  bool asked_to_stop() const;
  nlohmann::json state_json() const;
  void set_state(const nlohmann::json& state);
  void set_slices(const std::vector<int64_t>& ends);
  double learning_rate(int64_t step) const;  // of a step in the epoch in progress
  // Name and mean of the parts of the last step's loss; waits for the device.
  std::vector<std::pair<std::string, double>> loss_parts() const;
  void count_skip(const Step& step);
  // A loss that good weights can have.
  bool plausible(double loss) const;
  // Whether the weights of a checkpoint, which stay in the model, give such a loss.
  bool gives_finite_losses(const Checkpoint& checkpoint);
  void fill(Tensor& flat, const Checkpoint& from, std::string_view prefix);
  // The run has failed: says why and from what to go on, and throws.
  [[noreturn]] void fail_nonfinite(const std::string& reason, Outputs* outputs);
  std::string after_nonfinite(const std::string& reason, Outputs& outputs);  // what it says
  // Saves within an epoch, or where an epoch has no score.
  void save_recovery(Outputs* outputs);
  void save_epoch(const tasks::Scores& model, const tasks::Scores& chosen, Outputs* outputs);
  void find_best(const Outputs* outputs);  // by report::best_row()
  void warn_of_chance() const;
  bool out_of_patience() const;
  void log_step(const Step& step, Outputs* outputs);
  bool evaluate_epoch(Outputs* outputs);  // false when asked to stop
  std::optional<tasks::Scores> evaluate(const std::string& title);
  double seconds_left() const;
  // After the first step of this process: which convolutions were chosen, and whether those of the
  // checkpoint were others, so that the bits of the run may be too.
  void tell_convolutions();

  Options options_;
  tasks::Task& task_;
  report::Console& console_;
  dist::Group& group_;
  int64_t epoch_steps_;
  ScoreSchema schema_;
  Schedule schedule_;
  nn::Optimizer optimizer_;
  Graph graph_;                          // forward, backward and update
  std::vector<std::string> part_names_;  // of the loss
  // (2 + P): what a step tells besides the gradient, summed over its batches as that is: the loss,
  // its parts, and whether a rank is asked to stop.
  Tensor message_, loss_, parts_, stop_;  // the others are views of the first
  dist::Communicator* communicator_;      // null for a process alone
  std::optional<GradientReducer> reducer_;
  std::optional<nn::GradientSlices> slices_;
  // Of the batches of a step, where the order of sums is fixed and there are several.
  std::optional<nn::TreeSum> grads_sum_, message_sum_;
  TrainState state_;
  std::optional<double> chance_loss_;
  int64_t saved_step_ = -1;
  int64_t unproven_step_ = -1;  // saved or restored; the next step proves its weights, or does not
  int64_t restored_step_ = -1;
  int64_t first_epoch_ = 0;        // that this process is to train or evaluate
  bool any_sound_ = false;         // a step, or an evaluation, of this process
  bool finite_evaluation_ = true;  // the last one
  bool stopping_ = false;
  bool told_convolutions_ = false;
  std::vector<std::string> convolutions_before_;  // of the checkpoint
  // Seconds of the steps since the last log line, and of those that this process took in the epoch
  // in progress.
  struct StepSeconds {
    double all = 0, waited = 0;  // for data
    dist::CommunicationTimes communication;
    int64_t steps = 0;
    void add(const Step& step);
    void write(nlohmann::json& row, bool alone) const;  // means over the steps
  };
  StepSeconds interval_, epoch_;
  double step_seconds_ = 0, eval_seconds_ = 0;  // of late, for the time left
};

}  // namespace sg::train
