// Images to the objects in them: sgtrain --task detection.
#pragma once
#include <string_view>

#include "data/coco_dataset.h"
#include "sgformer/detect/config.h"
#include "tasks/detection.h"
#include "train/setup.h"

namespace sg::setups {

// Options that mean something to this task, but not to every one.
inline constexpr std::string_view kDetectionOptions[] = {
    "image-scale", "multi-scale",  "epochs",      "lr-milestones",
    "lr-gamma",    "warmup-steps", "warmup-ratio"};

// The 1x schedule, or for sgformer_nano one that takes minutes.
train::Options detection_defaults(std::string_view model);

// The model that the options mean (num_classes must be known).
sgformer::DetectorConfig detector_config(const train::Options& options);
// How images are seen in evaluation.
infer::ObjectDetectorSettings object_detector_settings(const train::Options& options);
tasks::DetectionSettings detection(const train::Options& options);
// Throws ExitCode::usage where the device is a GPU, on which detectors do not run yet.
void check_detection_device(Device device);

class DetectionSetup final : public train::Setup {
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
  std::shared_ptr<const data::CocoDataset> training_, validation_;
  std::optional<infer::ObjectDetectorSettings> evaluation_;
  std::unique_ptr<sgformer::Detector> model_;
  std::unique_ptr<tasks::Detection> task_;
};

}  // namespace sg::setups
