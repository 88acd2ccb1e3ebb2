// Which object each box is to find, by intersection over union.
#pragma once
#include "sgformer/detect/box.h"

namespace sg::sgformer {

struct AssignerSettings {
  double positive, negative;  // IoU from which a box is positive, and below which it is negative
  double min_positive;        // least IoU of what low_quality assigns
  bool low_quality;           // each object gets the boxes that overlap it most
};
inline constexpr AssignerSettings kRpnAssigner{0.7, 0.3, 0.3, true};
inline constexpr AssignerSettings kRoiAssigner{0.5, 0.5, 0.5, true};

template <class T>
struct Assignment {
  std::vector<int32_t> assigned;  // of each box: -1 ignored, 0 negative, k + 1 object k
  std::vector<T> max_iou;         // with any object
};

// A box goes to the object it overlaps most, the first of equal ones. Then, if low_quality, to each
// object go all boxes that tie for the largest IoU with it, where that is at least min_positive;
// the last object that asks for a box gets it. `valid` (a byte a box; empty: all are): the others
// are ignored. T is float or double. Time is that of the pairs that overlap; memory is that of the
// result.
template <class T>
Assignment<T> assign(std::span<const Box<T>> boxes, std::span<const Box<T>> objects,
                     const AssignerSettings& settings, std::span<const uint8_t> valid = {});

}  // namespace sg::sgformer
