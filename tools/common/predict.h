// Images through a model, for the programs that show what it says of each.
#pragma once
#include <functional>

#include "infer/dataset_predictor.h"
#include "report/console.h"
#include "tools/common/images.h"

namespace sg::tools {

struct PredictImages {
  const data::ClassNames& names;
  const data::ClassTitles& titles;
  int64_t top;  // classes of each image
  // Of an image that was read: its index in the dataset, and in the batch.
  std::function<void(int64_t, int64_t)> seen = [](int64_t, int64_t) {};
  // In the order of the dataset, with those that could not be read in their places.
  std::function<void(const ImageResult&)> add;
  std::function<void()> batch_done = [] {};
};

// All images, with a bar on the console. Where some could not be read it warns and returns
// ExitCode::data, else ExitCode::ok.
ExitCode predict_images(infer::DatasetPredictor& predict, const data::Dataset& images,
                        const PredictImages& to, report::Console& console);

}  // namespace sg::tools
