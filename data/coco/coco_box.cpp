#include "data/coco/coco_box.h"

#include <algorithm>

namespace sg::data {

double intersection_area(const CocoBox& a, const CocoBox& b) {
  const double width = std::min(a.width + a.x, b.width + b.x) - std::max(a.x, b.x);
  const double height = std::min(a.height + a.y, b.height + b.y) - std::max(a.y, b.y);
  return width > 0 && height > 0 ? width * height : 0;
}

double box_iou(const CocoBox& detection, const CocoBox& object, bool crowd) {
  const double shared = intersection_area(detection, object);
  if (shared == 0) return 0;
  return shared / (crowd ? detection.area() : detection.area() + object.area() - shared);
}

}  // namespace sg::data
