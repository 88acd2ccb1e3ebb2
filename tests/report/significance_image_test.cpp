#include "report/significance_image.h"

#include <cmath>

#include "tests/support/files.h"

namespace sg {
namespace {

using report::significance_color, report::significance_panel;

data::Image grey(int height, int width) {
  data::Image image;
  image.reset(height, width);
  image.pixels.assign(image.pixels.size(), 128);
  return image;
}

// Lightness after CIE, 0 to 100, by another formula than the colours' own.
double lightness(const data::Rgb& color) {
  const auto linear = [](uint8_t v) {
    return v <= 10 ? v / 255.0 / 12.92 : std::pow((v / 255.0 + 0.055) / 1.055, 2.4);
  };
  const double y =
      0.2126 * linear(color[0]) + 0.7152 * linear(color[1]) + 0.0722 * linear(color[2]);
  return 116 * std::cbrt(y) - 16;
}

double red_of(const data::Image& panel, int y, int x) { return panel.row(y)[x * 3]; }

}  // namespace

TEST_CASE("significance_color: lightness grows all the way") {
  for (int i = 1; i <= 16; ++i)
    CHECK(lightness(significance_color(i / 16.0)) > lightness(significance_color((i - 1) / 16.0)));
}

TEST_CASE("significance_panel: the image and under each map, side by side") {
  Tensor fine = zeros({4, 4}), coarse = zeros({2, 2});
  fine.data<float>()[15] = 1;  // bottom right
  fine.data<float>()[0] = NAN;
  coarse.data<float>()[0] = 5;  // top left
  const data::Image image = grey(28, 28), panel = significance_panel(image, {fine, coarse});
  CHECK(panel.height == 224);
  const int step = (panel.width - 224) / 2;
  CHECK(step > 224);
  CHECK(panel.width == 224 + 2 * step);
  CHECK(red_of(panel, 10, 10) == 128);
  CHECK(red_of(panel, 220, step + 220) > red_of(panel, 4, step + 4));
  CHECK(red_of(panel, 4, 2 * step + 4) > red_of(panel, 220, 2 * step + 220));
}

TEST_CASE("significance_panel: large images keep their size, extreme tokens do not hide the rest") {
  Tensor map = zeros({20, 20});
  for (int i = 0; i < 400; ++i) map.data<float>()[i] = float(i) / 400;
  map.data<float>()[0] = 1e6f;
  const data::Image panel = significance_panel(grey(240, 300), {map});
  CHECK(panel.height == 240);
  const int left = panel.width - 300;
  CHECK(red_of(panel, 230, left + 150) - red_of(panel, 60, left + 150) > 40);
}

TEST_CASE("significance_panel: a line of pixels is not enlarged without bounds") {
  CHECK(significance_panel(grey(2000, 1), {}).height == 2000);
  CHECK(significance_panel(grey(1, 300), {}).height == 6);
}

TEST_CASE("significance_panel: what is no map, and no image, are errors") {
  test::error_of(ExitCode::failure, [] { significance_panel(grey(8, 8), {zeros({2, 2, 2})}); });
  test::error_of(ExitCode::failure, [] { significance_panel({}, {}); });
}

}  // namespace sg
