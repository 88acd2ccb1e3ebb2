// Masks of a class in COCO's form: runs of pixels, column by column. Numbers and strings are those
// of pycocotools.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/coco/coco_box.h"

namespace sg::data {

// Pixels in column-major order as runs of 0 and 1 in turn; the first is of 0 and may be empty. They
// add up to height * width, which is below 2^31.
struct RleMask {
  int height = 0, width = 0;
  std::vector<uint32_t> counts;

  int64_t area() const;  // pixels that are 1
  CocoBox box() const;   // around them; all 0 where there are none
  bool operator==(const RleMask&) const = default;
};

// Writes the runs of a mask one after the other; its size must stand, and pixels left over are 0.
class RleWriter {
 public:
  explicit RleWriter(RleMask& mask) : mask_(mask) { mask_.counts.assign(1, 0); }
  void add(uint32_t pixels, bool one);
  void add(std::span<const uint8_t> pixels);  // 0 and 1
  void finish();

 private:
  RleMask& mask_;
  uint32_t written_ = 0;
};

// Throws ExitCode::data where the sides are none of an image, or runs do not add up to it.
void check_rle(const RleMask& mask);

// Counts as COCO's files have them, and back: each run, from the fourth on less that two before, in
// 5 bits a character. Throws ExitCode::data saying what is wrong with the string.
std::string rle_to_string(const RleMask& mask);
RleMask rle_from_string(std::string_view counts, int height, int width);

// Bytes of pixels, row-major and dense, that are not 0; and back, to 0 and 1.
RleMask rle_from_pixels(const uint8_t* pixels, int height, int width);
void rle_to_pixels(const RleMask& mask, uint8_t* pixels);
// Likewise column-major, which is far faster.
void rle_to_columns(const RleMask& mask, uint8_t* pixels);

// The pixels at the crossings of rows, which ascend or repeat, and columns in any order: resizing
// to the nearest, cropping and mirroring in one.
RleMask rle_gather(const RleMask& mask, std::span<const int> rows, std::span<const int> columns);

// Of masks of one size.
RleMask rle_union(const RleMask& a, const RleMask& b);
RleMask rle_intersection(const RleMask& a, const RleMask& b);
int64_t intersection_area(const RleMask& a, const RleMask& b);

// A mask with what is asked of it again and again.
struct MeasuredMask {
  explicit MeasuredMask(RleMask mask) : rle(std::move(mask)), area(rle.area()), box(rle.box()) {}
  RleMask rle;
  int64_t area;
  CocoBox box;
};
// Intersection over union, or over the area of the detection where the object is a crowd; 0 where
// both are empty.
double mask_iou(const MeasuredMask& detection, const MeasuredMask& object, bool crowd);

}  // namespace sg::data
