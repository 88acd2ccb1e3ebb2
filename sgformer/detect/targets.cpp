#include "sgformer/detect/targets.h"

#include <numeric>

#include "sgformer/detect/detections.h"

namespace sg::sgformer {
namespace {

Random stream_of(const TargetDraw& draw, Purpose purpose) {
  return {draw.seed, purpose, draw.step, draw.image};
}

}  // namespace

template <class T>
RpnTargets rpn_targets(const Anchors<T>& anchors, ImageSize padded, std::span<const Box<T>> objects,
                       const TargetDraw& draw) {
  const std::vector<int32_t> assigned =
      assign<T>(anchors.boxes(), objects, kRpnAssigner, anchors.valid(padded)).assigned;
  Sample chosen = sample(assigned, kRpnSampler, stream_of(draw, Purpose::rpn_sample));
  RpnTargets result{.positive = std::move(chosen.positive), .negative = std::move(chosen.negative)};
  for (const int32_t i : result.positive) result.positive_object.push_back(assigned[size_t(i)] - 1);
  return result;
}

template <class T>
RoiTargets<T> roi_targets(std::span<const Box<T>> proposals, std::span<const Box<T>> objects,
                          std::span<const int32_t> labels, int64_t classes,
                          const TargetDraw& draw) {
  check(labels.size() == objects.size(), "roi targets: {} objects and {} labels", objects.size(),
        labels.size());
  for (const int32_t label : labels)
    check(label >= 0 && label < classes, "roi targets: labels: expected 0 to {}, found {}",
          classes - 1, label);
  const std::vector<int32_t> of_proposals = assign(proposals, objects, kRoiAssigner).assigned;
  std::vector<Box<T>> boxes(objects.begin(), objects.end());
  boxes.insert(boxes.end(), proposals.begin(), proposals.end());
  std::vector<int32_t> assigned(objects.size());
  std::iota(assigned.begin(), assigned.end(), 1);
  assigned.insert(assigned.end(), of_proposals.begin(), of_proposals.end());

  const Sample chosen = sample(assigned, kRoiSampler, stream_of(draw, Purpose::roi_sample));
  RoiTargets<T> result;
  for (const int32_t i : chosen.positive) {
    const Box<T>& box = boxes[size_t(i)];
    const int32_t object = assigned[size_t(i)] - 1;
    result.proposals.push_back(box);
    result.labels.push_back(labels[size_t(object)]);
    result.objects.push_back(object);
    result.targets.push_back(kRoiCoder.encode(box, objects[size_t(object)]));
  }
  for (const int32_t i : chosen.negative) {
    result.proposals.push_back(boxes[size_t(i)]);
    result.labels.push_back(int32_t(classes));
  }
  return result;
}

template RpnTargets rpn_targets(const Anchors<float>&, ImageSize, std::span<const Box<float>>,
                                const TargetDraw&);
template RpnTargets rpn_targets(const Anchors<double>&, ImageSize, std::span<const Box<double>>,
                                const TargetDraw&);
template RoiTargets<float> roi_targets(std::span<const Box<float>>, std::span<const Box<float>>,
                                       std::span<const int32_t>, int64_t, const TargetDraw&);
template RoiTargets<double> roi_targets(std::span<const Box<double>>, std::span<const Box<double>>,
                                        std::span<const int32_t>, int64_t, const TargetDraw&);

}  // namespace sg::sgformer
