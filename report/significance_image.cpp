#include "report/significance_image.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

#include "data/resize.h"
#include "data/side_by_side.h"

namespace sg::report {
namespace {

constexpr int kMinSide = 224;
constexpr int kMaxEnlarged = 2048;  // the longer side, of images that are much longer than wide
constexpr float kOpacity = 0.6f;

// A map of one image, its values from 0 to 1.
struct Field {
  int64_t height, width;
  std::vector<float> values;

  // Bilinear between the centres of the tokens; y and x are shares of the image.
  float at(float y, float x) const {
    const auto place = [](float share, int64_t n) {
      return std::clamp(share * float(n) - 0.5f, 0.0f, float(n - 1));
    };
    const float fy = place(y, height), fx = place(x, width);
    const int64_t y0 = int64_t(fy), x0 = int64_t(fx);
    const int64_t y1 = std::min(y0 + 1, height - 1), x1 = std::min(x0 + 1, width - 1);
    const auto v = [&](int64_t r, int64_t c) { return values[size_t(r * width + c)]; };
    const float dy = fy - float(y0), dx = fx - float(x0);
    return std::lerp(std::lerp(v(y0, x0), v(y0, x1), dx), std::lerp(v(y1, x0), v(y1, x1), dx), dy);
  }
};

// The 1st and 99th percentile become 0 and 1, so that a few extreme tokens do not hide the rest.
Field field_of(const Tensor& map) {
  check_dims("significance_panel", "map", map, 2);
  Field f{map.dim(0), map.dim(1), to_vector<float>(map)};
  std::vector<float> sorted;
  std::ranges::copy_if(f.values, std::back_inserter(sorted),
                       [](float v) { return std::isfinite(v); });
  std::ranges::sort(sorted);
  const auto percentile = [&](double p) {
    return sorted.empty() ? 0.0f : sorted[size_t(std::lround(p * double(sorted.size() - 1)))];
  };
  const float low = percentile(0.01), range = percentile(0.99) - low;
  for (float& v : f.values)
    v = range > 0 && std::isfinite(v) ? std::clamp((v - low) / range, 0.0f, 1.0f) : 0.0f;
  return f;
}

data::Image enlarged(const data::Image& image) {
  const int side = std::min(image.height, image.width);
  if (side >= kMinSide) return image;
  const int most = std::max(kMaxEnlarged / std::max(image.height, image.width), 1);
  const int factor = std::min((kMinSide + side - 1) / side, most);
  data::Image out;
  out.reset(image.height * factor, image.width * factor);
  const auto whole = data::Resize::whole(out.height, out.width, data::Filter::bilinear);
  data::Resizer()(image.view(), whole, out.pixels.data());
  return out;
}

std::array<data::Rgb, 256> color_table() {
  std::array<data::Rgb, 256> table;
  for (size_t i = 0; i < table.size(); ++i) table[i] = significance_color(double(i) / 255);
  return table;
}

// Grey underneath, so that every colour is the map's.
data::Image overlay(const data::Image& image, const Field& field) {
  static const auto colors = color_table();
  data::Image out;
  out.reset(image.height, image.width);
  for (int y = 0; y < image.height; ++y)
    for (int x = 0; x < image.width; ++x) {
      const uint8_t* in = image.row(y) + x * 3;
      const float grey = 0.299f * in[0] + 0.587f * in[1] + 0.114f * in[2];
      const float t =
          field.at((float(y) + 0.5f) / float(image.height), (float(x) + 0.5f) / float(image.width));
      const auto& color = colors[size_t(std::lround(t * 255))];
      for (size_t c = 0; c < 3; ++c)
        out.row(y)[size_t(x) * 3 + c] = uint8_t(std::lround(std::lerp(grey, color[c], kOpacity)));
    }
  return out;
}

}  // namespace

// A helix in the Oklab space: lightness and hue grow evenly and chroma stays, so distance does too.
data::Rgb significance_color(double t) {
  const double lightness = 0.25 + 0.65 * t, chroma = 0.13;
  const double hue = (290 + 170 * t) * std::numbers::pi / 180;
  const double a = chroma * std::cos(hue), b = chroma * std::sin(hue);
  const auto cube = [](double v) { return v * v * v; };
  const double l = cube(lightness + 0.3963377774 * a + 0.2158037573 * b);
  const double m = cube(lightness - 0.1055613458 * a - 0.0638541728 * b);
  const double s = cube(lightness - 0.0894841775 * a - 1.2914855480 * b);
  const auto encode = [](double v) {  // linear light to an sRGB byte
    v = std::clamp(v, 0.0, 1.0);
    v = v <= 0.0031308 ? 12.92 * v : 1.055 * std::pow(v, 1 / 2.4) - 0.055;
    return uint8_t(std::lround(255 * v));
  };
  return {encode(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s),
          encode(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s),
          encode(-0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s)};
}

data::Image significance_panel(const data::Image& image, const std::vector<Tensor>& maps) {
  check(image.height > 0 && image.width > 0, "significance_panel: the image is empty");
  std::vector<data::Image> images{enlarged(image)};
  for (const Tensor& map : maps) images.push_back(overlay(images[0], field_of(map)));
  return data::side_by_side(images);
}

}  // namespace sg::report
