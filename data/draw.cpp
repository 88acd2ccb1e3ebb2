#include "data/draw.h"

#include <algorithm>
#include <vector>

// Its functions are defined static in the header, some of them unused.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#include <stb/stb_easy_font.h>
#pragma GCC diagnostic pop

namespace sg::data {

void fill(Image& image, const Box& box, const Rgb& color) {
  for (int y = std::max(box.top, 0); y < std::min(box.bottom(), image.height); ++y)
    for (int x = std::max(box.left, 0); x < std::min(box.right(), image.width); ++x)
      std::ranges::copy(color, image.row(y) + x * 3);
}

std::string printable_ascii(const std::string& text, size_t longest) {
  std::string out;
  for (const char c : text)
    if ((uint8_t(c) & 0xC0) != 0x80) out += c >= ' ' && c <= '~' ? c : '?';
  if (out.size() > longest) out = out.substr(0, longest - 2) + "..";
  return out;
}

int text_width(const std::string& text, int scale) {
  return scale * stb_easy_font_width(std::string(text).data());
}

void write_text(Image& image, int x, int y, const std::string& text, const Rgb& color, int scale,
                bool upwards) {
  struct Vertex {
    float x, y, z;
    uint32_t color;
  };
  std::vector<Vertex> quads(text.size() * 64 + 64);
  const int count = stb_easy_font_print(0, 0, std::string(text).data(), nullptr, quads.data(),
                                        int(quads.size() * sizeof(Vertex)));
  for (int i = 0; i < count; ++i) {
    const Vertex &a = quads[size_t(i) * 4], &c = quads[size_t(i) * 4 + 2];
    const int left = int(a.x) * scale, top = int(a.y) * scale;
    const int width = int(c.x - a.x) * scale, height = int(c.y - a.y) * scale;
    fill(image,
         upwards ? Box{x + top, y - left - width, height, width}
                 : Box{x + left, y + top, width, height},
         color);
  }
}

}  // namespace sg::data
