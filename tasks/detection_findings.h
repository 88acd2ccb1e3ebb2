// What an evaluation of detection shows beside its scores, as plain data: scores by class, and
// images with what was found in them.
#pragma once
#include <vector>

#include "core/findings.h"
#include "data/coco_dataset.h"
#include "data/detection_batches.h"
#include "data/object_drawing.h"
#include "infer/object_detector.h"
#include "tasks/coco_evaluation.h"

namespace sg::tasks {

constexpr double kShownScore = 0.3;  // of objects that are drawn

// "dog 0.93" each, in the colour of its class; those of at least `score`.
std::vector<data::DrawnObject> drawn_objects(const std::vector<infer::FoundObject>& found,
                                             const data::ClassNames& names,
                                             double score = kShownScore);

// A row per class: its objects, AP of boxes and of masks. Classes without objects have no numbers.
Table scores_by_class(const CocoScores& boxes, const CocoScores& masks,
                      const data::CocoAnnotations& truth);
// Truth and what is found, side by side, of these images. Those that cannot be read are left out.
Gallery found_gallery(const infer::ObjectDetector& detect, const data::CocoDataset& dataset,
                      const std::vector<int64_t>& indices);
// The images of a batch as the network sees them, with their objects.
Gallery training_objects(const data::DetectionBatch& batch, const data::CocoDataset& dataset,
                         size_t count = 8);

}  // namespace sg::tasks
