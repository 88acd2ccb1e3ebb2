// The detector once more, as literal.h: each sentence of the specification of Mask R-CNN as plain
// code over arrays of four corners, with decisions of its own. Random draws are those of
// sgformer/detect/sampler.h, done again.
#pragma once
#include "sgformer/detect/inference.h"
#include "sgformer/detect/training.h"

namespace sg::test {

struct LiteralDetectorLosses {
  std::vector<Tensor> parts;                // in the order of kDetectorLosses
  std::map<std::string, Tensor> gradients;  // of their sum, in official layout
  Tensor image_gradient;                    // (B, H, W, 3)
  int64_t positive_anchors, rois, positive_rois;
};
LiteralDetectorLosses literal_losses(const sgformer::Detector& model, const Tensor& images,
                                     std::span<const sgformer::TrainingObjects> objects,
                                     const sgformer::TargetDraw& first);

std::vector<sgformer::DetectedObjects> literal_detect(
    const sgformer::Detector& model, const Tensor& images,
    std::span<const sgformer::DetectedSize> sizes);

}  // namespace sg::test
