// Images to a class for every pixel: sgtrain --task segmentation.
#pragma once
#include <string_view>

#include "data/segmentation_dataset.h"
#include "sgformer/segment/segmentor.h"
#include "tasks/segmentation.h"
#include "train/setup.h"

namespace sg::setups {

// Options that mean something to this task, but not to every one.
inline constexpr std::string_view kSegmentationOptions[] = {
    "head",  "ignore-index", "reduce-zero-label", "image-scale",  "ratio-range", "cat-max-ratio",
    "steps", "poly-power",   "warmup-steps",      "warmup-ratio", "aux-weight"};

// The published recipe of the head ("": semantic_fpn), or for sgformer_nano one that takes minutes.
train::Options segmentation_defaults(std::string_view model, std::string_view head);

// The model that the options mean (num_classes must be known).
sgformer::SegmentorConfig segmentor_config(const train::Options& options);
// How images are seen in evaluation: --image-scale, at whole size.
infer::SegmenterSettings segmenter_settings(const train::Options& options);
data::SegmentationRequest segmentation_request(const train::Options& options);
tasks::SegmentationSettings segmentation(const train::Options& options);

class SegmentationSetup final : public train::Setup {
 public:
  void validate(const train::Options& options) const override;
  void open_data(const train::Options& options) override;
  nlohmann::json data_to_agree_on() const override;
  int64_t training_images() const override { return training_->size(); }
  void resolve(train::Options& options) override;
  nn::ParameterStore& make_model(const train::Options& options) override;
  std::string load_initial_weights(const train::Options& options) override;
  train::StepCost cost(const train::Options& options) override;
  int64_t usual_side() const override { return model_->config().backbone.image; }
  tasks::Task& make_task(const train::Options& options, dist::Group& group) override;
  std::string introduce_model(const train::Options& options) const override;
  std::vector<std::string> introduce_data(const train::Options& options) const override;
  nlohmann::json identity() const override;
  std::string describe_data(const train::Options& options) const override;
  Gallery samples() const override;

 private:
  std::shared_ptr<const data::SegmentationDataset> training_, validation_;
  std::optional<infer::SegmenterSettings> segmenter_;
  std::unique_ptr<sgformer::Segmentor> model_;
  std::unique_ptr<tasks::Segmentation> task_;
};

}  // namespace sg::setups
