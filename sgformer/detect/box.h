// Boxes of detection: real numbers in pixels, half-open, so that a width is x2 - x1. Arrays of them
// are the (n, 4) tensors of the published detectors. The integer box of an image is core/box.h.
#pragma once
#include <algorithm>

#include "core/box.h"
#include "core/tensor.h"

namespace sg::sgformer {

template <class T>
struct Box {
  T x1, y1, x2, y2;
  T width() const { return x2 - x1; }
  T height() const { return y2 - y1; }
  T area() const { return width() * height(); }
  bool operator==(const Box&) const = default;
};

// A tensor (..., 4) of T on the CPU as boxes; the tensor must outlive them.
template <class T>
std::span<const Box<T>> boxes_of(const Tensor& t) {
  check(t.dims() > 0 && t.dim(-1) == 4, "boxes: expected 4 numbers a row, found shape {}",
        t.shape().str());
  return {reinterpret_cast<const Box<T>*>(t.data<T>()), size_t(t.numel() / 4)};
}

// 0 where boxes do not overlap.
template <class T>
T intersection(const Box<T>& a, const Box<T>& b) {
  const T width = std::min(a.x2, b.x2) - std::max(a.x1, b.x1);
  const T height = std::min(a.y2, b.y2) - std::max(a.y1, b.y1);
  return std::max(width, T(0)) * std::max(height, T(0));
}

// What the assigner divides by at least: two empty boxes have an IoU of 0.
inline constexpr double kMinUnion = 1e-6;

// Intersection over union.
template <class T>
T iou(const Box<T>& a, const Box<T>& b, T min_union = T(kMinUnion)) {
  const T overlap = intersection(a, b);
  return overlap / std::max(a.area() + b.area() - overlap, min_union);
}

// Moves the corners into the image. What is not a number becomes 0, so that no box of a network
// that diverges is one.
template <class T>
Box<T> clip(const Box<T>& box, ImageSize image) {
  const auto into = [](T v, int most) { return v > 0 ? std::min(v, T(most)) : T(0); };
  return {into(box.x1, image.width), into(box.y1, image.height), into(box.x2, image.width),
          into(box.y2, image.height)};
}

}  // namespace sg::sgformer
