// Boxes of COCO's files, in pixels: the corner at the upper left, width and height.
#pragma once

namespace sg::data {

struct CocoBox {
  double x = 0, y = 0, width = 0, height = 0;

  double area() const { return width * height; }
  bool operator==(const CocoBox&) const = default;
};

// Of what both cover; 0 where they do not overlap.
double intersection_area(const CocoBox& a, const CocoBox& b);
// Intersection over union, or over the area of the detection where the object is a crowd; 0 where
// nothing is shared.
double box_iou(const CocoBox& detection, const CocoBox& object, bool crowd);

}  // namespace sg::data
