// Antialiased separable resizing with the bytes of Pillow's Image.resize: weights in double,
// normalized, rounded to 22-bit fixed point; a horizontal pass rounded to 8 bits, then a vertical
// one. Only the asked window of the result is computed.
#pragma once
#include <cstdint>
#include <vector>

#include "data/image.h"

namespace sg::data {

enum class Filter { bilinear, bicubic };

// What to make of a source: its resized image is height x width, of which `window` is kept.
struct Resize {
  int64_t height = 0, width = 0;
  Box window;
  Filter filter = Filter::bilinear;
  bool flip = false;  // mirrors the window left to right

  static Resize whole(int height, int width, Filter filter, bool flip = false) {
    return {height, width, {0, 0, width, height}, filter, flip};
  }
};

// Weights of the source pixels first[i] .. first[i] + count[i] - 1 of each output position i.
// Weights of one position are `stride` apart from those of the next and zero after the last.
struct Taps {
  int stride = 0;
  std::vector<int> first, count;
  std::vector<int32_t> weights;

  const int32_t* weights_of(int i) const { return weights.data() + size_t(i) * size_t(stride); }
};

// Holds scratch memory between calls; one per thread.
class Resizer {
 public:
  // Writes the window, (window.height, window.width, 3) dense, to `out`.
  void operator()(const ImageView& source, const Resize& resize, uint8_t* out);
  // The same where only the pixels `where` of a source_height x source_width image are at hand;
  // they must include source_box().
  void operator()(const ImageView& part, const Box& where, int source_height, int source_width,
                  const Resize& resize, uint8_t* out);

 private:
  Taps columns_, rows_;
  std::vector<uint8_t> narrow_;  // the rows after the horizontal pass
  std::vector<const uint8_t*> source_rows_;
  std::vector<uint8_t> padded_;  // copies of the last rows, which may be read past their ends
};

// The source pixels that the window of `resize` depends on.
Box source_box(int source_height, int source_width, const Resize& resize);

}  // namespace sg::data
