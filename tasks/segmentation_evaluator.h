// Each image of a validation set once, at its own size: the confusion of all pixels.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/broken_samples.h"
#include "data/segmentation_dataset.h"
#include "dist/alone.h"
#include "infer/segmenter.h"
#include "tasks/segmentation_findings.h"
#include "tasks/task.h"

namespace sg::tasks {

struct SegmentationEvaluation {
  infer::SegmenterSettings segmenter;
  int64_t workers = 2;                  // threads that load images
  double max_broken_share = 0.01;       // of the images; more of them end it
  dist::Group* group = &dist::alone();  // the ranks that share the images
};

// mIoU, aAcc and mAcc in percent (tasks/pixel_confusion.h), and loss: the mean cross entropy of the
// labelled pixels of the whole set (infer/segmenter.h).
ScoreSchema segmentation_scores();

// Of several ranks each takes a part, and all have the scores of all images: counts are integers,
// and losses are added in the order of the images, so scores are the same for any number of ranks.
// A rank that gives up makes all do. Images that cannot be read, or whose label cannot, are left
// out, named and counted.
class SegmentationEvaluator {
 public:
  // The model must outlive it; its weights may change between calls.
  SegmentationEvaluator(const sgformer::Segmentor& model,
                        std::shared_ptr<const data::SegmentationDataset> dataset,
                        const SegmentationEvaluation& settings);
  // Nothing where given up. Scores are NaN where the model's output is. Throws ExitCode::data where
  // no pixel is labelled.
  std::optional<Scores> operator()(const Task::Progress& progress);

  // Of the last call.
  const PixelConfusion& confusion() const { return confusion_; }
  double loss() const;                                             // NaN where no pixel is labelled
  int64_t images() const { return dataset_->size() - skipped(); }  // that were counted
  int64_t skipped() const { return int64_t(broken_.size()); }
  const std::map<int64_t, std::string>& broken() const { return broken_; }  // why, by index
  Findings findings() const;

 private:
  struct Sample;
  Sample load(int64_t i) const;
  enum class End { complete, given_up, not_finite };
  End evaluate_part(const Task::Progress& progress);
  void count(int64_t index, const data::LabelImage& truth, const infer::Segmenter::Labels& found);
  Scores scores() const;
  // What all ranks found; the worst of their ends.
  End gather(End mine);

  std::shared_ptr<const data::SegmentationDataset> dataset_;
  SegmentationEvaluation settings_;
  infer::Segmenter segment_;
  PixelConfusion confusion_;
  std::vector<double> losses_;  // of each image that was counted, in their order
  double loss_sum_ = 0;
  data::BrokenSamples found_broken_;           // by this rank
  std::map<int64_t, std::string> broken_;      // by all
  std::vector<LabelledImage> worst_, spread_;  // images that are shown
};

}  // namespace sg::tasks
