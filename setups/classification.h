// Images to classes: sgtrain's task unless --task says otherwise.
#pragma once
#include <string_view>

#include "data/dataset.h"
#include "sgformer/classifier.h"
#include "tasks/classification.h"
#include "train/setup.h"

namespace sg::setups {

// Options that mean something to this task, but not to every one.
inline constexpr std::string_view kClassificationOptions[] = {
    // Data
    "val-share", "class-order", "class-names", "aug-repeats",
    // Augmentation
    "scale", "ratio", "vflip", "aa", "color-jitter", "color-jitter-prob", "grayscale-prob",
    "no-aug", "train-interpolation", "mixup", "cutmix", "cutmix-minmax", "mixup-prob",
    "mixup-switch-prob", "mixup-mode", "mixup-off-epoch", "mixup-group", "reprob", "remode",
    "recount", "crop-pct",
    // Optimization
    "epochs", "warmup-epochs", "cooldown-epochs", "validation-batch-size", "warmup-lr",
    "sched-on-updates", "warmup-prefix", "smoothing", "bce-loss", "bce-sum", "bce-target-thresh",
    "class-weights"};

train::Options classification_defaults(std::string_view model);

// Throws ExitCode::usage where images are mixed and some would have no partner.
MixEraseConfig mix_erase(const train::Options& options);
// Where images are mixed, --mixup-group or else 2, since each needs a partner; else 1.
int64_t batch_multiple(const train::Options& options);
// --bce-loss. Throws ExitCode::usage where a flag does not go with it.
std::optional<BinaryCrossEntropy> bce(const train::Options& options);
tasks::ClassificationSettings classification(const train::Options& options);

class ClassificationSetup final : public train::Setup {
 public:
  void validate(const train::Options& options) const override;
  void open_data(const train::Options& options) override;
  nlohmann::json data_to_agree_on() const override;
  int64_t training_images() const override { return training_->size(); }
  nlohmann::json adopted(const train::Options& options,
                         const nlohmann::json& before) const override;
  void resolve(train::Options& options) override;
  nn::ParameterStore& make_model(const train::Options& options) override;
  std::string load_initial_weights(const train::Options& options) override;
  train::StepCost cost(const train::Options& options) override;
  int64_t usual_side() const override { return model_->config().image; }
  tasks::Task& make_task(const train::Options& options, dist::Group& group) override;
  std::string introduce_model(const train::Options& options) const override;
  std::vector<std::string> introduce_data(const train::Options& options) const override;
  nlohmann::json identity() const override;
  std::string describe_data(const train::Options& options) const override;
  Gallery samples() const override;

 private:
  std::shared_ptr<const data::Dataset> training_, validation_;
  data::ClassTitles titles_;
  int64_t batch_multiple_ = 1;
  std::vector<double> class_weights_;
  std::unique_ptr<sgformer::Classifier> model_;
  std::optional<infer::Preprocessing> preprocessing_;
  std::unique_ptr<tasks::Classification> task_;
};

}  // namespace sg::setups
