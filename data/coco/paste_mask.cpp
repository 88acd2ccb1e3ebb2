#include "data/coco/paste_mask.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/error.h"

namespace sg::data {
namespace {

// A row or column of pixels whose centre lies between the cells first and first + 1; -1 and `cells`
// are beyond the box.
struct Place {
  int pixel, first;
  double fraction;
};

// Those of [0, size) that are not wholly beyond the box, in order: one range.
std::vector<Place> places_of(double begin, double end, int cells, int size) {
  const double reach = (end - begin) / cells / 2 + 1;  // half a cell, and more than rounding
  const auto inside = [&](double v) { return int(std::clamp(v, 0.0, double(size))); };
  std::vector<Place> places;
  for (int pixel = inside(begin - reach); pixel < inside(std::ceil(end + reach)); ++pixel) {
    const double at = (pixel + 0.5 - begin) / (end - begin) * cells - 0.5;
    const double first = std::floor(at);
    if (first >= -1 && first < cells) places.push_back({pixel, int(first), at - first});
  }
  return places;
}

}  // namespace

template <class T>
RleMask paste_mask(std::span<const T> probabilities, const std::array<double, 4>& box, int height,
                   int width) {
  const auto side = size_t(std::lround(std::sqrt(double(probabilities.size()))));
  check(side > 0 && side * side == probabilities.size(),
        "paste_mask: expected a square of probabilities, found {}", probabilities.size());
  const auto [x1, y1, x2, y2] = box;
  std::vector<Place> columns, rows;
  if (std::isfinite(x1 + y1 + x2 + y2) && x1 < x2 && y1 < y2) {
    columns = places_of(x1, x2, int(side), width);
    rows = places_of(y1, y2, int(side), height);
  }
  RleMask mask{height, width, {}};
  RleWriter writer(mask);
  if (!columns.empty() && !rows.empty()) {
    std::vector<uint8_t> column(size_t(height), 0);
    std::vector<double> cells(side + 2, 0);  // of a column of pixels; the first and last are beyond
    writer.add(uint32_t(columns[0].pixel) * uint32_t(height), false);
    for (const auto& [x, left, across] : columns) {
      for (size_t j = 0; j < side; ++j) {
        const T* row = &probabilities[j * side];
        const double a = left < 0 ? 0 : double(row[left]);
        const double b = size_t(left + 1) == side ? 0 : double(row[left + 1]);
        cells[j + 1] = a * (1 - across) + b * across;
      }
      for (const auto& [y, top, down] : rows) {
        const double* cell = &cells[size_t(top + 1)];
        column[size_t(y)] = cell[0] * (1 - down) + cell[1] * down >= 0.5;
      }
      writer.add(column);
    }
  }
  writer.finish();
  return mask;
}

template RleMask paste_mask(std::span<const float>, const std::array<double, 4>&, int, int);
template RleMask paste_mask(std::span<const double>, const std::array<double, 4>&, int, int);

}  // namespace sg::data
