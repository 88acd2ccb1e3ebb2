#include "sgformer/detect/anchors.h"

#include <cmath>

namespace sg::sgformer {

template <class T>
Anchors<T>::Anchors(const AnchorSettings& settings, const std::vector<ImageSize>& sizes)
    : settings_(settings), sizes_(sizes), first_{0} {
  check(sizes.size() == settings.strides.size(),
        "anchors: expected {} maps, one a stride, found {}", settings.strides.size(), sizes.size());
  const auto cells = [](ImageSize map) { return size_t(map.height) * size_t(map.width); };
  for (const ImageSize& map : sizes)
    first_.push_back(first_.back() + cells(map) * settings.ratios.size());
  boxes_.reserve(first_.back());
  for (size_t i = 0; i < sizes.size(); ++i) {
    const int64_t stride = settings.strides[i];
    std::vector<Box<T>> around_origin;
    for (const double ratio : settings.ratios) {
      const double side = settings.scale * double(stride), root = std::sqrt(ratio);
      const T w = T(side / root / 2), h = T(side * root / 2);
      around_origin.push_back({-w, -h, w, h});
    }
    for (int64_t y = 0; y < sizes[i].height; ++y)
      for (int64_t x = 0; x < sizes[i].width; ++x)
        for (const Box<T>& box : around_origin) {
          const T right = T(x * stride), down = T(y * stride);
          boxes_.push_back({box.x1 + right, box.y1 + down, box.x2 + right, box.y2 + down});
        }
  }
}

template <class T>
std::vector<uint8_t> Anchors<T>::valid(ImageSize padded) const {
  std::vector<uint8_t> result(boxes_.size(), 0);
  for (size_t i = 0; i < sizes_.size(); ++i) {
    const auto cells = [&](int side, int of_map) {
      const int64_t stride = settings_.strides[i];
      return std::min<int64_t>((side + stride - 1) / stride, of_map);
    };
    const size_t each = settings_.ratios.size(), row = size_t(sizes_[i].width) * each;
    const int64_t rows = cells(padded.height, sizes_[i].height);
    const size_t columns = size_t(cells(padded.width, sizes_[i].width)) * each;
    for (int64_t y = 0; y < rows; ++y)
      std::fill_n(result.begin() + int64_t(first_[i] + size_t(y) * row), columns, uint8_t{1});
  }
  return result;
}

template class Anchors<float>;
template class Anchors<double>;

}  // namespace sg::sgformer
