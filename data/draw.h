// Rectangles and words drawn into images.
#pragma once
#include <string>

#include "data/image.h"

namespace sg::data {

constexpr int kLetterHeight = 8;  // pixels of the font; its letters are about 6 wide

// What of the box lies inside the image.
void fill(Image& image, const Box& box, const Rgb& color);

// What the font has: letters beyond ASCII are '?', and of a longer text the first letters.
std::string printable_ascii(const std::string& text, size_t longest);
// A pixel of the font becomes scale x scale.
int text_width(const std::string& text, int scale);
// (x, y) is the upper left corner; of text that is written upwards, turned by a quarter to the
// left, the lower left one.
void write_text(Image& image, int x, int y, const std::string& text, const Rgb& color, int scale,
                bool upwards = false);

}  // namespace sg::data
