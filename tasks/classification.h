// Images to classes: cross entropy, or a binary one of each class, against smoothed labels;
// evaluated by top-1, top-5 and the plain cross entropy.
#pragma once
#include <memory>

#include "data/device_prefetcher.h"
#include "dist/alone.h"
#include "infer/dataset_predictor.h"
#include "ops/binary_cross_entropy/binary_cross_entropy.h"
#include "ops/normalize_images/draw_mix_erase.h"
#include "ops/normalize_images/normalize_images.h"
#include "sgformer/classifier.h"
#include "tasks/draws.h"
#include "tasks/outcomes.h"
#include "tasks/task.h"

namespace sg::tasks {

struct EvaluationSettings {
  int64_t batch_size = 128;
  int64_t workers = 2;             // threads that load images
  double max_broken_share = 0.01;  // of the images; more of them end the run
  data::TransformConfig transform;
  ChannelStats stats;
  bool eager = false;                   // cuda: operations one by one, not as one graph a batch
  dist::Group* group = &dist::alone();  // the ranks that share the images
};

struct ClassificationSettings : EvaluationSettings {
  int64_t step_batches = 1;  // of a rank (data/loader.h)
  uint64_t seed = 42;
  double smoothing = 0.1;  // of the labels
  int aug_repeats = 0;     // copies of each training image in an epoch (data/loader.h)
  // Class weights of the loss, one per class of the model, above 0; none: all the same. The loss of
  // a batch is the weighted mean of torch's CrossEntropyLoss(weight, label_smoothing); evaluation
  // has no weights.
  std::vector<double> class_weights{};
  MixEraseConfig mix_erase{.mixup = 0, .cutmix = 0, .erase_probability = 0};
  int64_t mix_off_epoch = 0;  // no mixup and CutMix from this epoch on; 0: in all epochs
  std::optional<BinaryCrossEntropy> bce{};         // in place of the cross entropy over the classes
  std::optional<int64_t> validation_batch_size{};  // default: batch_size
  data::ClassTitles class_titles{};                // for findings()
};

// Each image of a dataset once, on the model's device. Of several ranks each takes a part, and all
// have the scores of all images; a rank that gives up makes all do.
class Evaluator {
 public:
  Evaluator(const sgformer::Classifier& model, std::shared_ptr<const data::Dataset> dataset,
            const EvaluationSettings& settings);
  std::optional<Scores> operator()(const Task::Progress& progress);
  // Images that the last evaluation counted, and those that could not be read.
  int64_t images() const { return int64_t(outcomes_.size()); }
  int64_t skipped() const { return dataset_->size() - images(); }

  // What the last evaluation predicted for each image that could be read; those that could
  // not, with the reason; and both as a confusion matrix, accuracy by class and the worst mistakes.
  const std::vector<Outcome>& outcomes() const { return outcomes_; }
  const std::map<int64_t, std::string>& broken() const { return broken_; }
  Findings findings() const;

 private:
  int64_t classes_;
  std::shared_ptr<const data::Dataset> dataset_;
  data::TransformConfig transform_;
  bool evaluate_part(const Task::Progress& progress);  // false where given up
  // The outcomes of all ranks in order of the images; false where one has given up.
  bool gather(bool complete);

  dist::Group& group_;
  infer::DatasetPredictor predict_;
  std::vector<Outcome> outcomes_;
  std::map<int64_t, std::string> broken_;
};

// top1 and top5 in percent, and loss, the plain cross entropy.
ScoreSchema classification_scores();

class Classification : public Task {
 public:
  Classification(sgformer::Classifier& model, std::shared_ptr<const data::Dataset> training,
                 std::shared_ptr<const data::Dataset> validation,
                 const ClassificationSettings& settings);

  nn::ParameterStore& parameters() override { return model_.parameters(); }
  int64_t batches() const override { return feed_.loader().batches(); }
  int64_t batch_size() const override { return feed_.loader().config().batch_size; }
  void start_epoch(int64_t epoch, int64_t first_batch) override;
  Batch load_batch(const BatchPosition& position) override;
  Losses losses(const Batch& batch) override;
  void prefetch() override { feed_.prefetch(); }
  std::optional<double> chance_loss() const override { return chance_loss_; }
  ScoreSchema schema() const override { return classification_scores(); }
  std::optional<Scores> evaluate(const Progress& progress) override { return evaluator_(progress); }
  Findings findings() const override;

 private:
  sgformer::Classifier& model_;
  double smoothing_;
  MixEraseConfig mix_erase_;
  int64_t mix_off_epoch_, epoch_ = 0;
  Tensor class_weights_;  // (K), or undefined
  std::optional<BinaryCrossEntropy> bce_;
  std::optional<double> chance_loss_;
  uint64_t seed_;
  ChannelStats stats_;
  data::ClassTitles class_titles_;
  data::DevicePrefetcher feed_;
  Draws drop_paths_;  // factors of stochastic depth of the batch
  Draws changes_;     // its mixing and erasing; undefined where there is none
  Evaluator evaluator_;
};

}  // namespace sg::tasks
