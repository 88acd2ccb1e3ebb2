// What the losses of a detector take of an image: which anchors and proposals, and what these are
// to become. All are functions of their arguments; images may be done by several threads.
#pragma once
#include "sgformer/detect/anchors.h"
#include "sgformer/detect/assigner.h"
#include "sgformer/detect/box_coder.h"
#include "sgformer/detect/sampler.h"

namespace sg::sgformer {

// Where random draws come from. `step` and `image` are those of the whole run: counted over
// accumulated batches and over ranks, so that no two draws share a stream.
struct TargetDraw {
  uint64_t seed, step, image;
};

// Of one image: anchors by index. `positive_object`: the object of each positive one.
struct RpnTargets {
  std::vector<int32_t> positive, positive_object, negative;
};
// `padded`: the size of the image without what was added to make a batch.
template <class T>
RpnTargets rpn_targets(const Anchors<T>& anchors, ImageSize padded, std::span<const Box<T>> objects,
                       const TargetDraw& draw);

// Of one image: `proposals` that the losses take, the positive ones first.
template <class T>
struct RoiTargets {
  std::vector<Box<T>> proposals;
  std::vector<int32_t> labels;       // of each; `classes` for the background
  std::vector<int32_t> objects;      // of each positive one, by index
  std::vector<BoxDelta<T>> targets;  // of each positive one, encoded
};
// Objects are proposals of themselves, before all others. `labels` of the objects, below `classes`.
template <class T>
RoiTargets<T> roi_targets(std::span<const Box<T>> proposals, std::span<const Box<T>> objects,
                          std::span<const int32_t> labels, int64_t classes, const TargetDraw& draw);

}  // namespace sg::sgformer
