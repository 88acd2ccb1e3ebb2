#include "data/object_drawing.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "data/resize.h"

namespace sg::data {
namespace {

constexpr float kOpacity = 0.45f;  // of masks
constexpr int kLine = 2;           // pixels of a box's sides
constexpr int kScale = 1;          // of letters
constexpr int kMargin = 2;         // around a name
constexpr size_t kLongestName = 28;
constexpr Rgb kInk{255, 255, 255};

void tint(Image& image, const RleMask& mask, const Rgb& color) {
  check(mask.height == image.height && mask.width == image.width,
        "draw_objects: a mask of {} x {} for an image of {} x {}", mask.height, mask.width,
        image.height, image.width);
  int64_t position = 0;
  for (size_t i = 0; i < mask.counts.size(); position += mask.counts[i++]) {
    if (i % 2 == 0) continue;
    for (int64_t p = position; p < position + mask.counts[i]; ++p) {
      uint8_t* pixel = image.row(int(p % image.height)) + p / image.height * 3;
      for (size_t c = 0; c < 3; ++c)
        pixel[c] = uint8_t(std::lround(std::lerp(float(pixel[c]), float(color[c]), kOpacity)));
    }
  }
}

void outline(Image& image, const Box& b, const Rgb& color) {
  fill(image, {b.left, b.top, b.width, kLine}, color);
  fill(image, {b.left, b.bottom() - kLine, b.width, kLine}, color);
  fill(image, {b.left, b.top, kLine, b.height}, color);
  fill(image, {b.right() - kLine, b.top, kLine, b.height}, color);
}

// Above the box where there is room, else in it.
void write_name(Image& image, const Box& box, const std::string& text, const Rgb& color) {
  const std::string name = printable_ascii(text, kLongestName);
  const int height = kLetterHeight * kScale + 2 * kMargin;
  const int width = text_width(name, kScale) + 2 * kMargin;
  const int left = std::max(std::min(box.left, image.width - width), 0);
  const int top = box.top >= height ? box.top - height : box.top;
  fill(image, {left, top, width, height}, color);
  write_text(image, left + kMargin, top + kMargin, name, kInk, kScale);
}

Rgb darker(const Rgb& color) {
  return {uint8_t(color[0] * 0.6), uint8_t(color[1] * 0.6), uint8_t(color[2] * 0.6)};
}

}  // namespace

Image draw_objects(const Image& image, const std::vector<DrawnObject>& objects, int most) {
  Image tinted = image;
  for (size_t i = objects.size(); i-- > 0;)
    if (objects[i].mask.height > 0) tint(tinted, objects[i].mask, objects[i].color);
  const double factor = std::min(1.0, double(most) / std::max(image.height, image.width));
  const auto scaled = [&](double v) { return int(std::lround(v * factor)); };
  Image out;
  if (factor < 1) {
    out.reset(std::max(scaled(image.height), 1), std::max(scaled(image.width), 1));
    Resizer()(tinted.view(), Resize::whole(out.height, out.width, Filter::bilinear),
              out.pixels.data());
  } else {
    std::swap(out, tinted);
  }
  const auto box_of = [&](const DrawnObject& o) {
    const int left = scaled(o.box.x), top = scaled(o.box.y);
    return Box{left, top, std::max(scaled(o.box.x + o.box.width) - left, kLine),
               std::max(scaled(o.box.y + o.box.height) - top, kLine)};
  };
  for (size_t i = objects.size(); i-- > 0;) {
    outline(out, box_of(objects[i]), objects[i].color);
    write_name(out, box_of(objects[i]), objects[i].name, darker(objects[i].color));
  }
  return out;
}

}  // namespace sg::data
