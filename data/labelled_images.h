// Samples of classification: an image of one size, and the class that it shows.
#pragma once
#include "data/dataset.h"
#include "data/sample_maker.h"
#include "data/transforms.h"

namespace sg::data {

class LabelledImages final : public SampleMaker {
 public:
  // Throws ExitCode::usage where the settings cannot work.
  LabelledImages(std::shared_ptr<const Dataset> dataset, const TransformConfig& transform);
  const ImageSet& images() const override { return *dataset_; }
  // The tensors of a batch: u8 (B, H, W, 3), and i32 (B).
  static constexpr size_t kImages = 0, kLabels = 1;
  std::vector<SampleTensor> tensors() const override;
  std::unique_ptr<Worker> worker(bool training) const override;

 private:
  std::shared_ptr<const Dataset> dataset_;
  TransformConfig transform_;
};

}  // namespace sg::data
