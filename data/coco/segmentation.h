// The mask of an object as COCO's files have it: polygons, or runs of pixels.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "data/coco/rle_mask.h"

namespace sg::data {

// A vertex of a polygon, x and y, in fifths of a pixel: COCO rounds to them before anything else.
using Vertex = std::array<int32_t, 2>;

// The pixels inside by COCO's rule, even-odd; what is beyond the image is cut off.
RleMask rasterize(std::span<const Vertex> polygon, int height, int width);

class CocoSegmentation {
 public:
  // Nothing of an image.
  CocoSegmentation() = default;
  explicit CocoSegmentation(RleMask mask) : is_rle_(true), rle_(std::move(mask)) {}
  // Lists x0, y0, x1, y1, ... in pixels, one after the other, list i up to ends[i]; of an odd
  // number the last is dropped. Where the first has 4 numbers, each is a box x, y, width, height,
  // but a later list of 4 after a polygon is a polygon. Throws ExitCode::data where a number is out
  // of range.
  CocoSegmentation(std::span<const double> numbers, std::span<const size_t> ends);

  bool is_rle() const { return is_rle_; }
  bool empty() const { return !is_rle_ && ends_.empty(); }
  // Where it is an RLE, of its own size.
  const RleMask& rle() const { return rle_; }
  // The union of its parts. Throws ExitCode::data where it is an RLE of another size.
  RleMask mask(int height, int width) const;

  // In a few bytes a vertex; mask() of what is read is the same.
  void append_to(std::vector<uint8_t>& bytes) const;
  static CocoSegmentation read(std::span<const uint8_t> bytes);

 private:
  void add_vertex(double x, double y);

  bool is_rle_ = false;
  RleMask rle_;
  std::vector<Vertex> vertices_;
  std::vector<size_t> ends_;  // of polygons
};

}  // namespace sg::data
