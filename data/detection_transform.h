// From an image and its objects to what a detector is trained on, with the bytes of mmdetection on
// OpenCV: resizing, mirroring and, at several scales, cropping. What is drawn at random is a
// function of (seed, epoch, sample) alone.
#pragma once
#include <array>
#include <optional>
#include <vector>

#include "core/rng.h"
#include "data/coco/rle_mask.h"
#include "data/coco_dataset.h"
#include "data/segmentation_transform.h"

namespace sg::data {

struct DetectionTransformConfig {
  // Sides that images are resized into, their ratio kept.
  ImageScale scale{1333, 800};
  // Shorter sides of 480 to 800 in place of that of `scale`, and of half of the images a crop.
  bool multi_scale = false;
  double hflip = 0.5;  // probability
};

// An object of an image: the box x1, y1, x2, y2 in pixels, and the mask, as large as the image.
struct DetectionObject {
  int32_t label = 0;
  std::array<float, 4> box{};
  RleMask mask;
};

struct DetectionSample {
  Image image;  // not padded
  std::vector<DetectionObject> objects;
};

// Where and how an image is changed.
struct DetectionDraw {
  bool flip = false;
  ImageSize to;  // the image is resized to it
  struct Crop {
    ImageSize of;  // the image is resized to it first
    Box box;       // of that
  };
  std::optional<Crop> crop{};
};
DetectionDraw draw_detection(const DetectionTransformConfig& config, ImageSize image, uint64_t seed,
                             int64_t epoch, int64_t sample);

// Holds scratch memory between calls; one per thread.
class DetectionTransform {
 public:
  explicit DetectionTransform(const DetectionTransformConfig& config) : config_(config) {}

  // Boxes are cut off at the image's border, and objects of which a crop leaves nothing go.
  void train(const CocoDataset& dataset, int64_t i, uint64_t seed, int64_t epoch,
             DetectionSample& out);
  // The same of an image and objects at hand; `image` is changed.
  void apply(const DetectionDraw& draw, Image& image, std::vector<DetectionObject> objects,
             DetectionSample& out);

 private:
  void resize(Image& image, ImageSize to, const Box& window);

  DetectionTransformConfig config_;
  BilinearResizer resizer_;
  std::vector<uint8_t> bytes_;
  Image source_, scratch_;
};

}  // namespace sg::data
