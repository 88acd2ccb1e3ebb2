// Objects drawn over their image: tinted masks, boxes, and their names.
#pragma once
#include <string>
#include <vector>

#include "data/coco/rle_mask.h"
#include "data/draw.h"

namespace sg::data {

struct DrawnObject {
  CocoBox box;       // in pixels of the image
  RleMask mask;      // as large as the image; of no size: there is none
  std::string name;  // beside the box
  Rgb color{};
};

// The first lie on top. Sides of the result are at most `most` pixels.
Image draw_objects(const Image& image, const std::vector<DrawnObject>& objects, int most = 1 << 20);

}  // namespace sg::data
