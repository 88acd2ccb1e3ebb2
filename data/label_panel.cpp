#include "data/label_panel.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <optional>

#include "core/error.h"
#include "data/resize.h"
#include "data/side_by_side.h"

namespace sg::data {
namespace {

constexpr float kOpacity = 0.6f;
constexpr int kLeastSide = 160;  // of an image in a panel
constexpr int kScale = 2, kSwatch = 14, kGap = 6, kRow = 20;
constexpr size_t kLongestName = 24;
constexpr Rgb kPage{255, 255, 255}, kInk{22, 25, 29};

Rgb ignored_color(float grey, int y, int x) {
  const auto v = uint8_t(std::lround(grey * ((x + y) / 4 % 2 ? 0.2f : 0.5f)));
  return {v, v, v};
}

// An image and its labels at another size.
struct Sized {
  Image image;
  std::vector<std::vector<uint8_t>> labels;
};

Sized resized(const Image& image, const std::vector<std::span<const uint8_t>>& labels, int height,
              int width) {
  Sized out;
  out.image.reset(height, width);
  Resizer()(image.view(), Resize::whole(height, width, Filter::bilinear), out.image.pixels.data());
  for (const auto& from : labels) {
    std::vector<uint8_t>& to = out.labels.emplace_back();
    to.reserve(size_t(height) * size_t(width));
    for (int64_t y = 0; y < height; ++y)
      for (int64_t x = 0; x < width; ++x)
        to.push_back(
            from[size_t(y * image.height / height * image.width + x * image.width / width)]);
  }
  return out;
}

// The size at which an image is shown.
ImageSize shown_size(const Image& image, int most) {
  const int shorter = std::min(image.height, image.width);
  const int longer = std::max(image.height, image.width);
  double factor = shorter < kLeastSide ? double((kLeastSide + shorter - 1) / shorter) : 1.0;
  factor = std::min(factor, double(most) / longer);
  const auto side = [&](int n) { return std::max(int(std::lround(n * factor)), 1); };
  return {side(image.height), side(image.width)};
}

struct Entry {
  std::string name;
  std::optional<Rgb> color;  // none: of ignored pixels
};

std::vector<Entry> entries_of(const std::vector<std::span<const uint8_t>>& labels,
                              const ClassNames& names, std::span<const Rgb> palette) {
  std::array<int64_t, 256> pixels{};
  for (const auto& map : labels)
    for (const uint8_t label : map) ++pixels[label];
  std::vector<size_t> classes(palette.size());
  std::iota(classes.begin(), classes.end(), size_t{0});
  std::erase_if(classes, [&](size_t c) { return pixels[c] == 0; });
  std::ranges::stable_sort(classes, std::greater(), [&](size_t c) { return pixels[c]; });
  std::vector<Entry> entries;
  for (const size_t c : classes) entries.push_back({class_name(names, int64_t(c)), palette[c]});
  if (std::any_of(pixels.begin() + int64_t(palette.size()), pixels.end(),
                  [](int64_t n) { return n > 0; }))
    entries.push_back({"ignored", {}});
  return entries;
}

// Rows of entries, as wide as `width` where the longest of them is no wider.
Image legend(const std::vector<Entry>& entries, int width) {
  struct Place {
    int row, x;
    std::string name;
  };
  std::vector<Place> places;
  int row = 0, x = kGap, widest = width;
  for (const Entry& e : entries) {
    const std::string name = printable_ascii(e.name, kLongestName);
    const int needed = kSwatch + kGap + text_width(name, kScale) + 2 * kGap;
    if (x > kGap && x + needed > width) ++row, x = kGap;
    places.push_back({row, x, name});
    widest = std::max(widest, x + needed), x += needed;
  }
  Image out;
  out.reset((row + 1) * kRow + 2 * kGap, widest);
  fill(out, {0, 0, out.width, out.height}, kPage);
  for (size_t i = 0; i < entries.size(); ++i) {
    const int top = kGap + places[i].row * kRow, left = places[i].x;
    for (int dy = 0; dy < kSwatch; ++dy)
      for (int dx = 0; dx < kSwatch; ++dx)
        fill(out, {left + dx, top + dy, 1, 1},
             entries[i].color.value_or(ignored_color(255, dy, dx)));
    write_text(out, left + kSwatch + kGap, top, places[i].name, kInk, kScale);
  }
  return out;
}

Image stacked(const Image& top, const Image& bottom) {
  Image out;
  out.reset(top.height + bottom.height, std::max(top.width, bottom.width));
  fill(out, {0, 0, out.width, out.height}, kPage);
  for (int y = 0; y < out.height; ++y) {
    const bool upper = y < top.height;
    const Image& from = upper ? top : bottom;
    std::copy_n(from.row(upper ? y : y - top.height), size_t(from.width) * 3, out.row(y));
  }
  return out;
}

}  // namespace

Image label_overlay(const Image& image, std::span<const uint8_t> labels,
                    std::span<const Rgb> palette) {
  sg::check(labels.size() * 3 == image.pixels.size(), "label_overlay: {} labels of {} x {} pixels",
            labels.size(), image.height, image.width);
  Image out;
  out.reset(image.height, image.width);
  for (int y = 0; y < image.height; ++y)
    for (int x = 0; x < image.width; ++x) {
      const uint8_t* in = image.row(y) + x * 3;
      const float grey = 0.299f * in[0] + 0.587f * in[1] + 0.114f * in[2];
      const size_t label = labels[size_t(y) * size_t(image.width) + size_t(x)];
      Rgb color = ignored_color(grey, y, x);
      if (label < palette.size())
        for (size_t c = 0; c < 3; ++c)
          color[c] = uint8_t(std::lround(std::lerp(grey, float(palette[label][c]), kOpacity)));
      std::ranges::copy(color, out.row(y) + x * 3);
    }
  return out;
}

Image label_panel(const Image& image, const std::vector<std::span<const uint8_t>>& labels,
                  const ClassNames& names, std::span<const Rgb> palette, int most) {
  const ImageSize size = shown_size(image, most);
  const Sized shown = resized(image, labels, size.height, size.width);
  std::vector<Image> images{shown.image};
  for (const auto& map : shown.labels) images.push_back(label_overlay(shown.image, map, palette));
  const Image row = side_by_side(images);
  return stacked(row, legend(entries_of(labels, names, palette), row.width));
}

Image overlay_with_legend(const Image& image, std::span<const uint8_t> labels,
                          const ClassNames& names, std::span<const Rgb> palette) {
  const Image overlay = label_overlay(image, labels, palette);
  return stacked(overlay, legend(entries_of({labels}, names, palette), overlay.width));
}

}  // namespace sg::data
