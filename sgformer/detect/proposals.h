// Proposals of a region proposal network: the boxes of an image that the heads look at.
#pragma once
#include "sgformer/detect/anchors.h"
#include "sgformer/detect/box_coder.h"

namespace sg::sgformer {

struct ProposalSettings {
  size_t before_nms;  // the best anchors of each level
  double iou_threshold = 0.7;
  size_t most = 1000;  // of all levels
};
inline constexpr ProposalSettings kTrainProposals{2000}, kTestProposals{1000};

// What the network says of one image at one level: a logit and a delta an anchor, in their order,
// which is that of maps (h, w, anchors) and (h, w, anchors * 4).
template <class T>
struct RpnLevel {
  std::span<const T> logits;
  std::span<const BoxDelta<T>> deltas;
};

template <class T>
struct Proposals {
  std::vector<Box<T>> boxes;
  std::vector<T> scores;
  std::vector<int32_t> level;
};

// The best anchors of each level, decoded and clipped to the image, less those that NMS drops
// within their level; then the best of all levels, by descending score. Equal scores: in order of
// level, then of anchors. T is float or double.
template <class T>
Proposals<T> rpn_proposals(const Anchors<T>& anchors, std::span<const RpnLevel<T>> levels,
                           ImageSize image, const ProposalSettings& settings);

// The map of a pyramid that a box is looked up in, 0 the finest: its side (geometric mean) doubles
// from one to the next, and is twice `finest` where the second begins.
template <class T>
int32_t roi_level(const Box<T>& box, double finest = 56, int32_t levels = 4) {
  const T level = std::floor(std::log2(std::sqrt(box.area()) / T(finest) + T(1e-6)));
  return level > 0 ? int32_t(std::min(level, T(levels - 1))) : 0;
}

}  // namespace sg::sgformer
