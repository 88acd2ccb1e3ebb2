// Detections of an image from what the box head says of its proposals.
#pragma once
#include "sgformer/detect/box_coder.h"

namespace sg::sgformer {

inline constexpr BoxCoder kRoiCoder{.stds = {0.1, 0.1, 0.2, 0.2}};

struct DetectionSettings {
  double score_threshold = 0.05;  // a detection has more
  double iou_threshold = 0.5;
  size_t most = 100;
};

template <class T>
struct Detections {
  std::vector<Box<T>> boxes;  // in the original image
  std::vector<T> scores;
  std::vector<int32_t> labels;
};

// `logits` (proposals, classes + 1), the background last; `deltas` (proposals, classes). A box for
// each proposal and class, by that class's delta, clipped to `image`, the proposals' (resized,
// without padding), scaled to `original`; NMS within a class; the best of all, by descending score.
// Equal scores: in order of proposal, then of class. T is float or double.
template <class T>
Detections<T> detections(std::span<const Box<T>> proposals, std::span<const T> logits,
                         std::span<const BoxDelta<T>> deltas, int64_t classes, ImageSize image,
                         ImageSize original, const DetectionSettings& settings,
                         const BoxCoder& coder = kRoiCoder);

}  // namespace sg::sgformer
