#include "data/coco_dataset.h"

#include <algorithm>

#include "core/error.h"

namespace sg::data {

CocoDataset::CocoDataset(std::string image_folder,
                         std::shared_ptr<const CocoAnnotations> annotations, bool training)
    : image_folder_(std::move(image_folder)), annotations_(std::move(annotations)) {
  if (!image_folder_.ends_with('/')) image_folder_ += '/';
  class_names_ = annotations_->class_names();
  int64_t bare = 0, small = 0;
  for (int64_t i = 0; i < annotations_->size(); ++i) {
    const CocoImage& image = annotations_->image(i);
    if (training && annotations_->objects(i).empty())
      ++bare;
    else if (training && std::min(image.height, image.width) < kMinTrainingSide)
      ++small;
    else
      images_.push_back(i);
  }
  if (bare + small > 0)
    remarks_.push_back(fmt::format(
        "{}: {} of {} images are not trained on: {} have no annotation, {} a side below {} pixels",
        annotations_->file(), bare + small, annotations_->size(), bare, small, kMinTrainingSide));
  if (images_.empty())
    fail(ExitCode::data, "{}: no image {}", annotations_->file(),
         training ? "with an annotation" : "in it");
}

std::string CocoDataset::identity(int64_t i) const {
  std::string text = key(i);
  for (const CocoObject& o : annotations_->objects(image(i)))
    text += fmt::format(" {} {}", o.id, o.label);
  return text;
}

ImageSize CocoDataset::image_size(int64_t i) const {
  const CocoImage& of = annotations_->image(image(i));
  return {of.height, of.width};
}

std::unique_ptr<Source> CocoDataset::open(int64_t i, std::vector<uint8_t>& buffer) const {
  const std::string path = name(i);
  read_bytes(path, buffer);
  auto source = open_image(buffer, path);
  const ImageSize expected = image_size(i);
  if (source->height() != expected.height || source->width() != expected.width)
    fail(ExitCode::data, "{}: the image is {} x {} pixels (width x height), {} has {} x {}", path,
         source->width(), source->height(), annotations_->file(), expected.width, expected.height);
  return source;
}

std::vector<const CocoObject*> CocoDataset::training_objects(int64_t i) const {
  const ImageSize size = image_size(i);
  const CocoBox whole{0, 0, double(size.width), double(size.height)};
  std::vector<const CocoObject*> objects;
  for (const CocoObject& o : annotations_->objects(image(i)))
    if (!o.crowd && !o.ignore && o.area > 0 && o.box.width >= 1 && o.box.height >= 1 &&
        intersection_area(o.box, whole) > 0)
      objects.push_back(&o);
  return objects;
}

}  // namespace sg::data
