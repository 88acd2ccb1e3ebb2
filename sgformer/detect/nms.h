// Non-maximum suppression.
#pragma once
#include <limits>
#include <vector>

#include "sgformer/detect/box.h"

namespace sg::sgformer {

// Takes boxes in order of top_scores(), and drops each that overlaps one taken before it and of its
// group: intersection > iou_threshold * union. Returns the indices of the first `most` taken.
// `groups` (empty: one for all) are levels or classes, numbers from 0 to kMostGroups - 1. T is
// float or double.
inline constexpr int32_t kMostGroups = 65536;
template <class T>
std::vector<int32_t> nms(std::span<const Box<T>> boxes, std::span<const T> scores,
                         std::span<const int32_t> groups, double iou_threshold,
                         size_t most = std::numeric_limits<size_t>::max());

}  // namespace sg::sgformer
