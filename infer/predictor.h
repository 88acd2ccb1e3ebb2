// Images through a model, as evaluation sees them: resize and crop, normalize, forward, softmax.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "data/transforms.h"
#include "ops/normalize_images/normalize_images.h"
#include "sgformer/classifier.h"

namespace sg::infer {

// How a model wants its images.
struct Preprocessing {
  data::TransformConfig transform;
  ChannelStats stats;
};

struct Prediction {
  std::vector<double> probabilities;  // of the classes
  // If asked for: the last significance map of each stage that has one, (H, W) f32 on the CPU.
  std::vector<Tensor> significance;
};

struct ClassProbability {
  int64_t index;
  double probability;
};
// The `count` most probable classes, of equal ones the first.
std::vector<ClassProbability> top_classes(const Prediction& prediction, int64_t count);

// Softmax of the logits (K) of one image, in double. Throws ExitCode::nonfinite where
// they are no numbers.
std::vector<double> softmax(std::span<const float> logits);
// The last significance map of each stage that has one, f32 (B, H, W) on the CPU.
std::vector<Tensor> last_maps(const std::vector<sgformer::SignificanceMap>& significance);

class Predictor {
 public:
  // The model must outlive the predictor.
  Predictor(const sgformer::Classifier& model, Preprocessing preprocessing);

  const Preprocessing& preprocessing() const { return preprocessing_; }
  // Predicts images of img_size, resized and cut (data::load_eval_image()), in one batch. Throws
  // ExitCode::nonfinite where the output is no number.
  std::vector<Prediction> operator()(std::span<const data::Image> images,
                                     bool significance = false) const;

 private:
  const sgformer::Classifier& model_;
  Preprocessing preprocessing_;
};

}  // namespace sg::infer
