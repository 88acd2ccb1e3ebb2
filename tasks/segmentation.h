// Images to a class for every pixel: cross entropy of the pixels, evaluated by mIoU.
#pragma once
#include <memory>

#include "data/device_prefetcher.h"
#include "data/segmentation_transform.h"
#include "tasks/draws.h"
#include "tasks/rank_parts.h"
#include "tasks/segmentation_evaluator.h"

namespace sg::tasks {

struct SegmentationSettings {
  SegmentationEvaluation
      evaluation;            // its workers, group, share and ChannelStats are training's too
  int64_t batch_size = 16;   // of this rank
  int64_t step_batches = 1;  // of a rank (data/loader.h)
  uint64_t seed = 42;
  data::SegmentationTransformConfig transform;  // of training images
  double auxiliary_weight = 0.4;                // of the auxiliary head's loss in the total
  PolynomialSchedule schedule;                  // its `steps` is replaced by that of the run
};

class Segmentation : public Task {
 public:
  // The model must outlive it. Of several ranks, batch norm has the statistics of all from now on.
  Segmentation(sgformer::Segmentor& model,
               std::shared_ptr<const data::SegmentationDataset> training,
               std::shared_ptr<const data::SegmentationDataset> validation,
               const SegmentationSettings& settings);
  ~Segmentation() override;
  Segmentation(const Segmentation&) = delete;
  Segmentation& operator=(const Segmentation&) = delete;

  nn::ParameterStore& parameters() override { return model_.parameters(); }
  int64_t batches() const override { return feed_.loader().batches(); }
  int64_t batch_size() const override { return feed_.loader().config().batch_size; }
  void start_epoch(int64_t epoch, int64_t first_batch) override {
    feed_.start_epoch(epoch, first_batch);
  }
  Batch load_batch(const BatchPosition& position) override;
  // decode + auxiliary_weight * aux.
  Losses losses(const Batch& batch) override;
  // "decode", and "aux", not weighted, where there is such a head.
  std::vector<std::string> loss_parts() const override;
  void prefetch() override { feed_.prefetch(); }
  std::optional<double> chance_loss() const override;
  std::optional<Schedule> schedule(int64_t total_steps) const override;
  ScoreSchema schema() const override { return segmentation_scores(); }
  std::optional<Scores> evaluate(const Progress& progress) override { return evaluator_(progress); }
  Findings findings() const override;

 private:
  bool has_auxiliary() const { return model_.config().auxiliary_channels > 0; }

  sgformer::Segmentor& model_;
  PolynomialSchedule schedule_;
  uint64_t seed_;
  ChannelStats stats_;
  double auxiliary_weight_;
  std::vector<data::Rgb> palette_;
  std::optional<RankParts> parts_;
  data::DevicePrefetcher feed_;
  // Factors of the batch: of stochastic depth, and of the channels before the logits.
  Draws drop_paths_, dropout_, aux_dropout_;
  Tensor weight_;  // (1): auxiliary_weight
  SegmentationEvaluator evaluator_;
};

}  // namespace sg::tasks
