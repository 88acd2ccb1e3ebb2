// Objects in images of any size: resized as evaluation does it, through the network, and boxes and
// masks back in the image's own pixels.
#pragma once
#include <string>
#include <vector>

#include "data/coco/rle_mask.h"
#include "data/segmentation_transform.h"
#include "ops/normalize_images/normalize_images.h"
#include "sgformer/detect/inference.h"

namespace sg::infer {

struct ObjectDetectorSettings {
  data::ImageScale scale{1333, 800};  // images are resized into these sides, their ratio kept
  ChannelStats stats{};
  sgformer::DetectSettings detect{};
};
// "resized into (1333, 800), padded to multiples of 32": for people, who compare scores.
std::string describe(const ObjectDetectorSettings& settings);

struct FoundObject {
  int32_t label = 0;
  double score = 0;
  data::CocoBox box;   // in the image, as all that follows
  data::RleMask mask;  // as large as the image
};

class ObjectDetector {
 public:
  // The model must outlive it; its weights may change between calls.
  ObjectDetector(const sgformer::Detector& model, const ObjectDetectorSettings& settings)
      : model_(model), settings_(settings) {}
  const ObjectDetectorSettings& settings() const { return settings_; }

  // What the network is to see of an image.
  struct View {
    ImageSize original;
    data::Image seen;
  };
  // May be called from several threads.
  View view(const data::Image& image) const;

  // By descending score.
  std::vector<FoundObject> operator()(const View& view) const;

 private:
  const sgformer::Detector& model_;
  ObjectDetectorSettings settings_;
};

}  // namespace sg::infer
