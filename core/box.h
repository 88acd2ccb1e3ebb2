// A part of an image, and its size, in pixels.
#pragma once
#include <cstdint>

namespace sg {

struct ImageSize {
  int height = 0, width = 0;
  constexpr ImageSize() = default;
  constexpr ImageSize(int side) : height(side), width(side) {}  // a square, as in img_size = 224
  constexpr ImageSize(int h, int w) : height(h), width(w) {}
  bool operator==(const ImageSize&) const = default;
};

// Rows [top, bottom()) and columns [left, right()). Kernels of GPUs read it too.
struct Box {
  int32_t left = 0, top = 0, width = 0, height = 0;
  constexpr int32_t right() const { return left + width; }
  constexpr int32_t bottom() const { return top + height; }
  constexpr bool has_row(int y) const { return y >= top && y < bottom(); }
  constexpr bool has(int y, int x) const { return has_row(y) && x >= left && x < right(); }
  constexpr bool empty() const { return width <= 0 || height <= 0; }
  constexpr int64_t area() const { return empty() ? 0 : int64_t{width} * height; }
  bool operator==(const Box&) const = default;
};

}  // namespace sg
