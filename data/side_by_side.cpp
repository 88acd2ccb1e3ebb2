#include "data/side_by_side.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"

namespace sg::data {

Image side_by_side(const std::vector<Image>& images) {
  check(!images.empty(), "side_by_side: no images");
  int width = -kSideBySideGap;
  for (const Image& image : images) {
    check(image.height == images[0].height, "side_by_side: heights of {} and {} pixels",
          images[0].height, image.height);
    width += kSideBySideGap + image.width;
  }
  Image row;
  row.reset(images[0].height, width);
  std::ranges::fill(row.pixels, uint8_t{255});
  int left = 0;
  for (const Image& image : images) {
    for (int y = 0; y < image.height; ++y)
      std::memcpy(row.row(y) + left * 3, image.row(y), size_t(image.width) * 3);
    left += image.width + kSideBySideGap;
  }
  return row;
}

}  // namespace sg::data
