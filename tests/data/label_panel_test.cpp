#include "data/label_panel.h"

#include <algorithm>
#include <set>

#include "tests/support/files.h"

using namespace sg;
using namespace sg::data;

namespace {

const std::vector<Rgb> kPalette{{200, 0, 0}, {0, 200, 0}, {0, 0, 200}};
const ClassNames kNames{"wall", "sky", "caf\xc3\xa9"};

Image grey(int height, int width, uint8_t value = 100) {
  Image image;
  image.reset(height, width);
  std::ranges::fill(image.pixels, value);
  return image;
}

Rgb pixel(const Image& image, int y, int x) {
  Rgb c;
  std::copy_n(image.row(y) + x * 3, 3, c.begin());
  return c;
}

int64_t count(const Image& image, const Rgb& color) {
  int64_t n = 0;
  for (int y = 0; y < image.height; ++y)
    for (int x = 0; x < image.width; ++x) n += pixel(image, y, x) == color;
  return n;
}

}  // namespace

TEST_CASE("label_overlay: the colour of each class over grey, and stripes where it is ignored") {
  std::vector<uint8_t> labels(20 * 30, 0);
  labels[31] = 2;
  std::fill(labels.begin() + 300, labels.end(), uint8_t(255));
  const Image image = label_overlay(grey(20, 30), labels, kPalette);
  CHECK(pixel(image, 0, 0) == Rgb{160, 40, 40});  // 0.4 grey + 0.6 colour
  CHECK(pixel(image, 1, 1) == Rgb{40, 40, 160});
  std::set<uint8_t> ignored;
  for (int y = 10; y < 20; ++y)
    for (int x = 0; x < 30; ++x) {
      const Rgb c = pixel(image, y, x);
      CHECK(c[0] == c[1]);
      CHECK(c[0] == c[2]);
      ignored.insert(c[0]);
    }
  CHECK(ignored == std::set<uint8_t>{20, 50});
  test::error_of(ExitCode::failure,
                 [] { label_overlay(grey(2, 3), std::vector<uint8_t>(5), kPalette); });
}

TEST_CASE("label_panel: image, truth and prediction in a row, and a legend of what occurs") {
  const std::vector<uint8_t> truth(200 * 300, 0), found(200 * 300, 1);
  const Image panel = label_panel(grey(200, 300), {truth, found}, kNames, kPalette);
  CHECK(panel.width >= 3 * 300);
  CHECK(panel.height > 200);
  CHECK(panel.height < 300);
  CHECK(pixel(panel, 100, 10) == Rgb{100, 100, 100});
  CHECK(pixel(panel, 100, 320) == Rgb{160, 40, 40});
  CHECK(pixel(panel, 100, 630) == Rgb{40, 160, 40});
  // Swatches of the two that occur, and of no other.
  CHECK(count(panel, kPalette[0]) > 100);
  CHECK(count(panel, kPalette[1]) > 100);
  CHECK(count(panel, kPalette[2]) == 0);
}

TEST_CASE("label_panel: small images are enlarged, large ones made smaller, labels stay labels") {
  std::vector<uint8_t> labels(20 * 20, 0);
  for (int y = 0; y < 20; ++y) std::fill_n(labels.begin() + y * 20 + 10, 10, uint8_t(1));
  const Image panel = label_panel(grey(20, 20), {labels}, kNames, kPalette);
  CHECK(panel.height > 160);
  CHECK(pixel(panel, 0, 166 + 79) == Rgb{160, 40, 40});
  CHECK(pixel(panel, 0, 166 + 80) == Rgb{40, 160, 40});
  const std::vector<uint8_t> many(1000 * 500, 0);
  CHECK(label_panel(grey(1000, 500), {many}, kNames, kPalette, 200).height < 300);
}

TEST_CASE(
    "overlay_with_legend: the overlay keeps its size; a narrow one has a legend as wide as "
    "its names") {
  const std::vector<uint8_t> labels(40 * 10, 2);
  const Image image = overlay_with_legend(grey(40, 10), labels, kNames, kPalette);
  CHECK(pixel(image, 39, 9) == Rgb{40, 40, 160});
  CHECK(image.width > 50);
  CHECK(pixel(image, 10, 20) == Rgb{255, 255, 255});
}
