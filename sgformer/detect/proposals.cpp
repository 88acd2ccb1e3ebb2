#include "sgformer/detect/proposals.h"

#include "sgformer/detect/nms.h"
#include "sgformer/detect/scores.h"

namespace sg::sgformer {

template <class T>
Proposals<T> rpn_proposals(const Anchors<T>& anchors, std::span<const RpnLevel<T>> levels,
                           ImageSize image, const ProposalSettings& settings) {
  check(levels.size() == anchors.levels(), "proposals: anchors of {} levels, logits of {}",
        anchors.levels(), levels.size());
  Proposals<T> best;
  std::vector<T> scores;
  for (size_t l = 0; l < levels.size(); ++l) {
    const auto boxes = anchors.level(l);
    const RpnLevel<T>& level = levels[l];
    check(level.logits.size() == boxes.size() && level.deltas.size() == boxes.size(),
          "proposals: level {}: {} anchors, {} logits and {} deltas", l, boxes.size(),
          level.logits.size(), level.deltas.size());
    scores.resize(boxes.size());
    sigmoid(level.logits, std::span(scores));
    for (const int32_t i : top_scores(std::span<const T>(scores), settings.before_nms)) {
      best.boxes.push_back(
          clip(BoxCoder().decode(boxes[size_t(i)], level.deltas[size_t(i)]), image));
      best.scores.push_back(scores[size_t(i)]);
      best.level.push_back(int32_t(l));
    }
  }
  Proposals<T> result;
  for (const int32_t i :
       nms<T>(best.boxes, best.scores, best.level, settings.iou_threshold, settings.most)) {
    result.boxes.push_back(best.boxes[size_t(i)]);
    result.scores.push_back(best.scores[size_t(i)]);
    result.level.push_back(best.level[size_t(i)]);
  }
  return result;
}

template Proposals<float> rpn_proposals(const Anchors<float>&, std::span<const RpnLevel<float>>,
                                        ImageSize, const ProposalSettings&);
template Proposals<double> rpn_proposals(const Anchors<double>&, std::span<const RpnLevel<double>>,
                                         ImageSize, const ProposalSettings&);

}  // namespace sg::sgformer
