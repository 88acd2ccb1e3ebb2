// Images to the objects in them: Mask R-CNN, evaluated by average precision as COCO defines it.
#pragma once
#include <memory>

#include "data/detection_batches.h"
#include "sgformer/detect/training.h"
#include "tasks/detection_evaluator.h"
#include "tasks/draws.h"

namespace sg::tasks {

// A learning rate that falls at the begin of epochs, counted from 0.
struct EpochMilestones {
  std::vector<int64_t> epochs;
  double lr = 1e-4, gamma = 0.1;
  Warmup warmup{};
};

struct DetectionSettings {
  DetectionEvaluation evaluation;  // its group and ChannelStats are training's too
  data::DetectionBatchesConfig batches;
  EpochMilestones schedule;
};

// Losses are means over the samples of one batch: an image's weight depends on those beside it, as
// in the published detectors, whose batch is that of a process.
class Detection : public Task {
 public:
  // The model must outlive it.
  Detection(sgformer::Detector& model, std::shared_ptr<const data::CocoDataset> training,
            std::shared_ptr<const data::CocoDataset> validation, const DetectionSettings& settings);

  nn::ParameterStore& parameters() override { return model_.parameters(); }
  int64_t batches() const override { return feed_.batches(); }
  int64_t batch_size() const override { return feed_.config().batch_size; }
  void start_epoch(int64_t epoch, int64_t first_batch) override {
    feed_.start_epoch(epoch, first_batch);
  }
  Batch load_batch(const BatchPosition& position) override;
  Losses losses(const Batch& batch) override;
  std::vector<std::string> loss_parts() const override;
  std::optional<Schedule> schedule(int64_t total_steps) const override;
  ScoreSchema schema() const override { return detection_scores(); }
  std::optional<Scores> evaluate(const Progress& progress) override { return evaluator_(progress); }
  Findings findings() const override;

 private:
  sgformer::Detector& model_;
  EpochMilestones schedule_;
  ChannelStats stats_;
  data::DetectionBatches feed_;
  data::DetectionBatch batch_;
  Draws drop_paths_;
  DetectionEvaluator evaluator_;
};

}  // namespace sg::tasks
