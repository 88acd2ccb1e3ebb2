// Each image of a validation set once, at its own size: average precision of boxes and of masks.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/broken_samples.h"
#include "data/coco_dataset.h"
#include "dist/alone.h"
#include "infer/object_detector.h"
#include "tasks/coco_evaluation.h"
#include "tasks/detection_findings.h"
#include "tasks/task.h"

namespace sg::tasks {

struct DetectionEvaluation {
  infer::ObjectDetectorSettings detector;
  int64_t workers = 2;                  // threads that load images
  double max_broken_share = 0.01;       // of the images; more of them end it
  dist::Group* group = &dist::alone();  // the ranks that share the images
  bool keep = false;                    // what was found, for found()
};

// In percent: AP, AP50 and AP75 of boxes ("box_AP", ...), then of masks ("mask_AP", ...).
ScoreSchema detection_scores();

// Of several ranks each takes a part, and all have the scores of all images, the same for any
// number of ranks. A rank that gives up makes all do. Images that cannot be read are left out,
// named and counted: nothing was found in them.
class DetectionEvaluator {
 public:
  // The model must outlive it; its weights may change between calls.
  DetectionEvaluator(const sgformer::Detector& model,
                     std::shared_ptr<const data::CocoDataset> dataset,
                     const DetectionEvaluation& settings);
  // Nothing where given up.
  std::optional<Scores> operator()(const Task::Progress& progress);

  // Of the last call.
  const CocoScores& boxes() const { return boxes_; }
  const CocoScores& masks() const { return masks_; }
  int64_t images() const { return dataset_->size() - skipped(); }  // that were seen
  int64_t skipped() const { return int64_t(broken_.size()); }
  const std::map<int64_t, std::string>& broken() const { return broken_; }  // why, by index
  // By index in the dataset, of this process, where `keep` is set.
  const std::map<int64_t, std::vector<infer::FoundObject>>& found() const { return found_; }
  Findings findings() const;

 private:
  struct Sample;
  Sample load(int64_t i) const;
  bool evaluate_part(const Task::Progress& progress);  // false: given up
  void count(int64_t i, std::vector<infer::FoundObject> found);
  // What all ranks found; false where one of them has given up.
  bool gather(bool complete);

  std::shared_ptr<const data::CocoDataset> dataset_;
  DetectionEvaluation settings_;
  infer::ObjectDetector detect_;
  std::optional<CocoEvaluation> box_evaluation_, mask_evaluation_;
  CocoScores boxes_{}, masks_{};
  data::BrokenSamples found_broken_;       // by this rank
  std::map<int64_t, std::string> broken_;  // by all
  std::map<int64_t, std::vector<infer::FoundObject>> found_;
};

}  // namespace sg::tasks
