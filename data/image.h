// Images in memory: 8-bit RGB, rows from the top, channels last (H, W, 3).
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/box.h"

namespace sg::data {

using Rgb = std::array<uint8_t, 3>;

// Pixels that belong to someone else; a crop is a view of the same memory.
struct ImageView {
  const uint8_t* pixels = nullptr;
  int height = 0, width = 0;
  size_t stride = 0;  // bytes from one row to the next

  const uint8_t* row(int y) const { return pixels + size_t(y) * stride; }
  ImageView crop(const Box& b) const {
    return {row(b.top) + size_t(b.left) * 3, b.height, b.width, stride};
  }
};

// Pixels that belong to someone else and change in place: (H, W, 3), no gap between rows.
struct ImageSpan {
  uint8_t* pixels = nullptr;
  int height = 0, width = 0;

  size_t row_bytes() const { return size_t(width) * 3; }
  size_t bytes() const { return size_t(height) * row_bytes(); }
};

struct Image {
  int height = 0, width = 0;
  std::vector<uint8_t> pixels;

  // Takes on a size and keeps the memory; the pixels are left undefined.
  void reset(int new_height, int new_width) {
    height = new_height, width = new_width;
    pixels.resize(size_t(height) * size_t(width) * 3);
  }
  uint8_t* row(int y) { return pixels.data() + size_t(y) * size_t(width) * 3; }
  const uint8_t* row(int y) const { return pixels.data() + size_t(y) * size_t(width) * 3; }
  ImageSpan span() { return {pixels.data(), height, width}; }
  ImageView view() const { return {pixels.data(), height, width, size_t(width) * 3}; }
};

}  // namespace sg::data
