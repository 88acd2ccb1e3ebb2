// From an image and its label to what a segmentation network is trained on, and the resizing of
// images for evaluation; both with the bytes of mmsegmentation on OpenCV. What is drawn at random
// is a function of (seed, epoch, sample) alone.
#pragma once
#include <array>

#include "core/rng.h"
#include "data/opencv_resize.h"
#include "data/sample_maker.h"
#include "data/segmentation_dataset.h"
#include "data/transforms/photometric.h"

namespace sg::data {

// Sides that an image is resized into, its ratio kept: the largest size of which neither is left.
struct ImageScale {
  int long_side = 2048, short_side = 512;

  ImageScale times(double ratio) const { return {int(long_side * ratio), int(short_side * ratio)}; }
  ImageSize of(ImageSize image) const;
};

struct SegmentationTransformConfig {
  ImageSize crop = 512;
  ImageScale scale;
  std::array<double, 2> ratio{0.5, 2.0};  // the scale is multiplied by one drawn of these
  // A crop has at least two classes, and the largest less than this share of the pixels with a
  // class; else another is drawn, at most kCropRedraws times. 1: any crop.
  double max_class_share = 0.75;
  double hflip = 0.5;       // probability
  bool photometric = true;  // data/transforms/photometric.h

  void check() const;  // throws ExitCode::usage
};
constexpr int kCropRedraws = 10;

// Whether a crop of such labels is taken.
bool is_varied(std::span<const uint8_t> labels, double max_class_share);

// Holds scratch memory between calls; one per thread.
class SegmentationTransform {
 public:
  explicit SegmentationTransform(SegmentationTransformConfig config);

  // Resize, crop, flip, photometric distortion; padded on the right and below with black and
  // kIgnoredLabel. Writes image (crop.height, crop.width, 3), label (crop.height, crop.width), and
  // valid: height and width of what is no padding.
  void train(Source& source, const LabelImage& source_label, uint64_t seed, int64_t epoch,
             int64_t sample, uint8_t* image, int32_t* valid, uint8_t* label);

 private:
  Box draw_crop(const LabelImage& source_label, ImageSize to, Random& random);

  SegmentationTransformConfig config_;
  BilinearResizer resizer_;
  Image source_;
  std::vector<int> rows_, columns_;  // of the label, resized
  std::vector<uint8_t> label_;       // that of the crop
};

// Samples of training: u8 images (B, H, W, 3), i32 valid (B, 2), u8 labels (B, H, W).
class SegmentationSamples final : public SampleMaker {
 public:
  SegmentationSamples(std::shared_ptr<const SegmentationDataset> dataset,
                      const SegmentationTransformConfig& config);
  const ImageSet& images() const override { return *dataset_; }
  static constexpr size_t kImages = 0, kValid = 1, kLabels = 2;
  std::vector<SampleTensor> tensors() const override;
  // Of training alone: images of evaluation have no common size.
  std::unique_ptr<Worker> worker(bool training) const override;

 private:
  std::shared_ptr<const SegmentationDataset> dataset_;
  SegmentationTransformConfig config_;
};

// An image as evaluation gives it to the network: resized to scale.of(its size), then to the next
// multiples of `align` in both directions, its ratio no longer kept (1: as it is).
Image resize_for_evaluation(const ImageView& image, const ImageScale& scale, int align);

}  // namespace sg::data
