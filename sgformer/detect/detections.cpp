#include "sgformer/detect/detections.h"

#include "sgformer/detect/nms.h"
#include "sgformer/detect/scores.h"

namespace sg::sgformer {

template <class T>
Detections<T> detections(std::span<const Box<T>> proposals, std::span<const T> logits,
                         std::span<const BoxDelta<T>> deltas, int64_t classes, ImageSize image,
                         ImageSize original, const DetectionSettings& settings,
                         const BoxCoder& coder) {
  const size_t n = proposals.size(), k = size_t(classes);
  check(logits.size() == n * (k + 1) && deltas.size() == n * k,
        "detections: expected {} logits and {} deltas for {} proposals and {} classes, found {} "
        "and {}",
        n * (k + 1), n * k, n, classes, logits.size(), deltas.size());
  const T scale_x = T(image.width) / T(original.width);
  const T scale_y = T(image.height) / T(original.height);
  std::vector<T> scores(logits.size());
  softmax(logits, classes + 1, std::span(scores));
  Detections<T> all;
  for (size_t i = 0; i < n; ++i)
    for (size_t c = 0; c < k; ++c) {
      const T score = scores[i * (k + 1) + c];
      if (!(score > T(settings.score_threshold))) continue;
      const Box<T> box = clip(coder.decode(proposals[i], deltas[i * k + c]), image);
      all.boxes.push_back({box.x1 / scale_x, box.y1 / scale_y, box.x2 / scale_x, box.y2 / scale_y});
      all.scores.push_back(score);
      all.labels.push_back(int32_t(c));
    }
  Detections<T> best;
  for (const int32_t i :
       nms<T>(all.boxes, all.scores, all.labels, settings.iou_threshold, settings.most)) {
    best.boxes.push_back(all.boxes[size_t(i)]);
    best.scores.push_back(all.scores[size_t(i)]);
    best.labels.push_back(all.labels[size_t(i)]);
  }
  return best;
}

template Detections<float> detections(std::span<const Box<float>>, std::span<const float>,
                                      std::span<const BoxDelta<float>>, int64_t, ImageSize,
                                      ImageSize, const DetectionSettings&, const BoxCoder&);
template Detections<double> detections(std::span<const Box<double>>, std::span<const double>,
                                       std::span<const BoxDelta<double>>, int64_t, ImageSize,
                                       ImageSize, const DetectionSettings&, const BoxCoder&);

}  // namespace sg::sgformer
