// Resizing of 8-bit images with the bytes of OpenCV's resize: bilinear without antialiasing, and
// nearest. Only a window of the result is computed.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "data/image.h"

namespace sg::data {

// Holds scratch memory between calls; one per thread.
class BilinearResizer {
 public:
  // The source pixels that `window` of the image resized to `to` depends on.
  static Box source_box(ImageSize source, ImageSize to, const Box& window);
  // Writes `window` of the `source` image resized to `to`, with 1 or 3 channels and no gap between
  // rows. Only the pixels `where` of it are at hand, in `part`; they must include source_box().
  void operator()(const ImageView& part, const Box& where, ImageSize source, ImageSize to,
                  const Box& window, int channels, uint8_t* out);
  // The whole image.
  void operator()(const ImageView& source, ImageSize to, int channels, uint8_t* out);

 private:
  // The two source pixels of an output position, and their weights of together 2048.
  struct Taps {
    std::vector<int> first, second;
    std::vector<int16_t> first_weight, second_weight;
  };
  static Taps taps(int source, int to, int begin, int count, bool clamped);
  const int16_t* narrowed(const uint8_t* row, int y, int channels, int kept);

  Taps columns_;
  std::vector<int16_t> narrowed_[2];  // source rows resized to the window's width, and which
  int narrowed_row_[2] = {-1, -1};
};

// Where the pixels of nearest resizing lie: of outputs begin to begin + count - 1 of `to`, the
// source positions.
void nearest_positions(int source, int to, int begin, int count, std::vector<int>& positions);
// Pixels of `channels` bytes at the crossings of rows and columns, no gap between rows.
void gather_pixels(const ImageView& source, std::span<const int> rows, std::span<const int> columns,
                   int channels, uint8_t* out);

}  // namespace sg::data
