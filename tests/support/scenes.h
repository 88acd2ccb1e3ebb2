// Drawn scenes for tests of segmentation: sky above ground, a box that stands on it, and two last
// rows that are ignored.
#pragma once
#include <algorithm>

#include "core/rng.h"
#include "data/png_write.h"
#include "tests/support/files.h"

namespace sg::test {

struct Scene {
  data::Image image;
  data::LabelImage label;
};

inline Scene draw_scene(int height, int width, uint64_t seed) {
  constexpr uint8_t kColors[3][3] = {{60, 120, 220}, {90, 160, 70}, {200, 60, 50}};
  Random random(seed, Purpose::test);
  const auto between = [&](int low, int high) { return int(random.integer(low, high)); };
  const int horizon = between(height / 3, height / 2), side = between(height * 2 / 5, height / 2);
  const int left = between(0, width - side), bottom = between(horizon + 1, height - 3);
  Scene s;
  s.image.reset(height, width), s.label.reset(height, width);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) {
      const bool box = y <= bottom && y > bottom - side && x >= left && x < left + side;
      const int c = box ? 2 : y > horizon ? 1 : 0;
      s.label.pixels[size_t(y * width + x)] = y >= height - 2 ? 255 : uint8_t(c);
      for (int k = 0; k < 3; ++k)
        s.image.row(y)[x * 3 + k] = uint8_t(kColors[c][k] + between(-20, 20));
    }
  return s;
}

// Scenes of SPLIT in DIR, of sizes that differ a little, and the names of their classes.
inline void put_scenes(const std::filesystem::path& dir, const std::string& split, int count,
                       int height = 40, int width = 56) {
  std::filesystem::create_directories(dir / "images" / split);
  std::filesystem::create_directories(dir / "annotations" / split);
  std::vector<data::Rgb> palette = data::class_palette(255);
  palette.push_back({255, 255, 255});
  for (int i = 0; i < count; ++i) {
    const Scene s = draw_scene(height + i % 3, width - i % 2, uint64_t(i) + 100 * split.size());
    const auto image = data::encode_png(s.image), label = data::encode_label_png(s.label, palette);
    const std::string name = fmt::format("{}/{:03}.png", split, i);
    put(dir / "images" / name, {image.begin(), image.end()});
    put(dir / "annotations" / name, {label.begin(), label.end()});
  }
  put(dir / "classes.txt", "sky\nground\nbox\n");
}

}  // namespace sg::test
