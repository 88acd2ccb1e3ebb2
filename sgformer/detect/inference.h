// From images to the objects in them.
#pragma once
#include "sgformer/detect/detections.h"
#include "sgformer/detect/detector.h"
#include "sgformer/detect/proposals.h"

namespace sg::sgformer {

struct DetectedSize {
  ImageSize image;     // in the batch, without padding
  ImageSize original;  // before it was resized: what results are given in
};

struct DetectedObjects : Detections<double> {
  Tensor masks;  // (n, 28, 28) f64 on the CPU: probabilities of the object's class over its box
};

struct DetectSettings {
  ProposalSettings proposals = kTestProposals;
  DetectionSettings detections{};
};

// images (B, H, W, 3), normalized and padded by zeros, of the parameters' dtype, and the sizes of
// each -> the objects of each, by descending score. Not recorded on the tape. The model decides in
// acc_dtype() of its dtype; results are widened.
std::vector<DetectedObjects> detect(const Detector& model, const Tensor& images,
                                    std::span<const DetectedSize> sizes,
                                    const DetectSettings& settings = {});

}  // namespace sg::sgformer
