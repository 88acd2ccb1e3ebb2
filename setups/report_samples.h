// The images of a report: validation images, spread over the set, and the significance that guided
// the model in them, or what it finds.
#pragma once
#include "data/coco_dataset.h"
#include "data/dataset.h"
#include "data/segmentation_dataset.h"
#include "infer/object_detector.h"
#include "infer/predictor.h"
#include "infer/segmenter.h"
#include "report/report.h"

namespace sg::setups {

// At most `count` images, the same every time. Broken ones are left out. Throw ExitCode::nonfinite
// where the weights are damaged.
//
// As evaluation sees them, with the classes that the model finds in them.
Gallery report_samples(const infer::Predictor& predict, const data::Dataset& dataset,
                       const data::ClassTitles& titles = {}, int count = 12);
// Whole images, made smaller where they are large.
Gallery report_samples(const infer::Segmenter& segment, const data::SegmentationDataset& dataset,
                       int count = 8);
// Truth and what is found, side by side.
Gallery report_samples(const infer::ObjectDetector& detect, const data::CocoDataset& dataset,
                       int count = 12);

}  // namespace sg::setups
