// Images with objects, from a folder of images and a file of annotations of COCO.
#pragma once
#include <memory>

#include "data/coco/annotations.h"
#include "data/image_set.h"

namespace sg::data {

constexpr int kMinTrainingSide = 32;  // pixels of an image's shorter side

class CocoDataset final : public ImageSet {
 public:
  // training: without the images that have no annotation, or a side below kMinTrainingSide.
  // Throws ExitCode::data where no image is left.
  CocoDataset(std::string image_folder, std::shared_ptr<const CocoAnnotations> annotations,
              bool training);
  int64_t size() const override { return int64_t(images_.size()); }
  std::string name(int64_t i) const override { return image_folder_ + key(i); }
  std::string key(int64_t i) const override {
    return std::string(annotations_->file_name(images_[size_t(i)]));
  }
  std::string identity(int64_t i) const override;
  // Throws ExitCode::data where the image is not as large as the annotations say.
  std::unique_ptr<Source> open(int64_t i, std::vector<uint8_t>& buffer) const override;

  const CocoAnnotations& annotations() const { return *annotations_; }
  int64_t image(int64_t i) const { return images_[size_t(i)]; }  // its index in annotations()
  ImageSize image_size(int64_t i) const;
  // Those that a network is trained on: no crowds, none marked as ignored, none without area, below
  // a pixel wide or high, or wholly beyond the image. An image may have none.
  std::vector<const CocoObject*> training_objects(int64_t i) const;

 private:
  std::string image_folder_;  // with a '/' at the end
  std::shared_ptr<const CocoAnnotations> annotations_;
  std::vector<int64_t> images_;
};

}  // namespace sg::data
