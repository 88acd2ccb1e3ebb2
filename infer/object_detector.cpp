#include "infer/object_detector.h"

#include "core/cpu/parallel.h"
#include "data/coco/paste_mask.h"
#include "data/padded_images.h"

namespace sg::infer {

std::string describe(const ObjectDetectorSettings& s) {
  return fmt::format("resized into ({}, {}), padded to multiples of {}", s.scale.long_side,
                     s.scale.short_side, data::kDetectionMultiple);
}

ObjectDetector::View ObjectDetector::view(const data::Image& image) const {
  return {{image.height, image.width},
          data::resize_for_evaluation(image.view(), settings_.scale, 1)};
}

std::vector<FoundObject> ObjectDetector::operator()(const View& view) const {
  const ImageSize seen{view.seen.height, view.seen.width};
  const data::Image* const image = &view.seen;
  const data::PaddedImages padded = data::pad_images({&image, 1});
  const nn::ParameterStore& parameters = model_.parameters();
  const Tensor images =
      normalize_images(padded.images.to(parameters.device()), settings_.stats, parameters.dtype(),
                       {}, padded.valid.to(parameters.device()));
  const sgformer::DetectedSize sizes{seen, view.original};
  const sgformer::DetectedObjects found =
      sgformer::detect(model_, images, {&sizes, 1}, settings_.detect)[0];
  std::vector<FoundObject> objects(found.boxes.size());
  const size_t pixels = objects.empty() ? 0 : size_t(found.masks.numel()) / objects.size();
  parallel_for(int64_t(objects.size()), 1, [&](int64_t begin, int64_t end) {
    for (auto i = size_t(begin); i < size_t(end); ++i) {
      const auto& [x1, y1, x2, y2] = found.boxes[i];
      objects[i] = {found.labels[i],
                    found.scores[i],
                    {x1, y1, x2 - x1, y2 - y1},
                    data::paste_mask<double>(
                        std::as_const(found.masks).span<double>().subspan(i * pixels, pixels),
                        {x1, y1, x2, y2}, view.original.height, view.original.width)};
    }
  });
  return objects;
}

}  // namespace sg::infer
