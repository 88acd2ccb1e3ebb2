// Between the maps of a batch, on its device, and the boxes of its images, which the host decides
// about. T is float or double: acc_dtype() of the maps.
#pragma once
#include "sgformer/detect/heads.h"
#include "sgformer/detect/proposals.h"

namespace sg::sgformer {

// What the region proposal network says of a batch, copied to the host.
template <class T>
class BatchProposals {
 public:
  explicit BatchProposals(const RpnHead::Output& outputs);

  const Anchors<T>& anchors() const { return anchors_; }
  // Of one image, whose size is without padding.
  Proposals<T> of(int64_t image, ImageSize size, const ProposalSettings& settings) const;

 private:
  std::vector<Tensor> logits_, deltas_;
  Anchors<T> anchors_;
};

// Boxes of a batch as arguments of ops/roi_align.
template <class T>
class BatchRois {
 public:
  void add(int64_t image, const Box<T>& box) {
    rois_.insert(rois_.end(), {T(image), box.x1, box.y1, box.x2, box.y2});
    levels_.push_back(roi_level(box));
  }
  int64_t size() const { return int64_t(levels_.size()); }
  Tensor rois(Device device) const { return from_vector(rois_, {size(), 5}).to(device); }
  Tensor levels(Device device) const { return from_vector(levels_, {size()}).to(device); }

 private:
  std::vector<T> rois_;
  std::vector<int32_t> levels_;
};

}  // namespace sg::sgformer
