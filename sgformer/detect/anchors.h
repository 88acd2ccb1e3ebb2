// Anchors of a region proposal network: boxes of one area and several ratios around the corner of
// each cell of the maps of a feature pyramid.
#pragma once
#include <vector>

#include "sgformer/detect/box.h"

namespace sg::sgformer {

struct AnchorSettings {
  std::vector<int64_t> strides{4, 8, 16, 32, 64};  // of the maps, the finest first
  std::vector<double> ratios{0.5, 1, 2};           // height / width
  double scale = 8;  // the side of a square anchor, in strides of its map
};

// Cell (y, x) has its anchors around the pixel (x * stride, y * stride), which no map knows to be
// inside of an image. Flat order: level, y, x, ratio; so are the maps (h, w, anchors) of logits.
template <class T>
class Anchors {
 public:
  // `sizes` of the maps, in cells, one a stride.
  Anchors(const AnchorSettings& settings, const std::vector<ImageSize>& sizes);

  const std::vector<Box<T>>& boxes() const { return boxes_; }
  size_t levels() const { return sizes_.size(); }
  std::span<const Box<T>> level(size_t i) const {
    return std::span(boxes_).subspan(first_[i], first_[i + 1] - first_[i]);
  }
  // A byte an anchor: 1 where the cell lies in an image of size `padded`, which the maps may exceed
  // because another image of the batch is larger.
  std::vector<uint8_t> valid(ImageSize padded) const;

 private:
  AnchorSettings settings_;
  std::vector<ImageSize> sizes_;
  std::vector<size_t> first_;  // of each level, and the number of all
  std::vector<Box<T>> boxes_;
};

}  // namespace sg::sgformer
