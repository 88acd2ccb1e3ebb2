// From images and the objects in them to the losses of Mask R-CNN.
#pragma once
#include <array>
#include <functional>
#include <string_view>

#include "sgformer/detect/detector.h"
#include "sgformer/detect/targets.h"

namespace sg::sgformer {

// What is to be found in an image of a batch, in pixels of the image as it is in the batch.
struct TrainingObjects {
  ImageSize image;                // without padding
  ImageSize padded;               // as it was padded alone; the batch may be padded further
  std::vector<Box<float>> boxes;  // in the image, with an area
  std::vector<int32_t> labels;    // of each, below the classes of the model
  // Writes the mask of an object: image.height * image.width bytes, row-major, 1 inside. Called by
  // several threads at a time.
  std::function<void(int64_t object, uint8_t* pixels)> mask;
};

// Names of DetectorLosses::parts.
inline constexpr std::array<std::string_view, 5> kDetectorLosses{"rpn_cls", "rpn_box", "cls", "box",
                                                                 "mask"};
struct DetectorLosses {
  Tensor total;               // (1), on the tape, of the dtype acc_dtype() of the images: the sum
  std::vector<Tensor> parts;  // (1) each, of the same dtype, not on the tape
};

// images (B, H, W, 3), normalized and padded by zeros, of the parameters' dtype, and the objects of
// each. `first` is the draw of the first image; the others count on from it. `options`: of the
// backbone. Each loss is divided by what this batch has: by its samples of anchors, of proposals,
// or by the pixels of its positive masks; those of several processes are to be averaged.
//
// Defined are: no object in an image or in any (the mask loss is 0 where no proposal is positive);
// outputs that are not numbers (so is the loss). Which parameters are written, and how often, is
// the same for all. Images are decided by several threads; the bits do not depend on how many.
// Throws ExitCode::data naming image and object where objects do not fit their image.
DetectorLosses training_losses(const Detector& model, const Tensor& images,
                               std::span<const TrainingObjects> objects, const TargetDraw& first,
                               const ForwardOptions& options);

}  // namespace sg::sgformer
