// Rows of several maps by one number: all of image 0, map after map, then those of image 1.
#pragma once
#include <cstdint>

namespace sg {

constexpr int kMaxSampledMaps = 8;

struct SampledRows {
  int64_t images = 0, of_image = 0;
  int maps = 0;
  int64_t of_map[kMaxSampledMaps] = {};  // rows of an image

  struct Place {
    int map;
    int64_t row;  // of the whole map
  };
  constexpr bool contains(int64_t i) const { return i >= 0 && i < images * of_image; }
  constexpr Place at(int64_t i) const {
    const int64_t image = i / of_image;
    int64_t row = i % of_image;
    int map = 0;
    for (; row >= of_map[map]; ++map) row -= of_map[map];
    return {map, image * of_map[map] + row};
  }
};

}  // namespace sg
