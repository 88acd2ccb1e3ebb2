// Drawn images with annotations of COCO: squares and disks on a noisy ground.
#pragma once
#include <nlohmann/json.hpp>

#include "core/rng.h"
#include "data/draw.h"
#include "data/png_write.h"
#include "tests/support/files.h"

namespace sg::test {

struct CocoScenes {
  int count = 6, height = 64, width = 96;
  int bare = 0;  // of them, the last: without objects
};

// DIR/annotations/instances_SPLIT.json and DIR/SPLIT/*.png; images are wide and high in turn, their
// sizes differ. Categories 3 ("square") and 7 ("bar").
inline void put_coco_scenes(const std::filesystem::path& dir, const std::string& split,
                            const CocoScenes& scenes) {
  std::filesystem::create_directories(dir / split);
  std::filesystem::create_directories(dir / "annotations");
  nlohmann::json all{
      {"images", nlohmann::json::array()},
      {"annotations", nlohmann::json::array()},
      {"categories", {{{"id", 3}, {"name", "square"}}, {{"id", 7}, {"name", "bar"}}}}};
  for (int i = 0; i < scenes.count; ++i) {
    Random random(uint64_t(i) + 100 * split.size(), Purpose::test);
    const auto between = [&](int low, int high) { return int(random.integer(low, high)); };
    const int h = i % 2 ? scenes.width - i % 3 : scenes.height + i % 3;
    const int w = i % 2 ? scenes.height + i % 2 : scenes.width - i % 4;
    data::Image image;
    image.reset(h, w);
    for (uint8_t& v : image.pixels) v = uint8_t(between(90, 130));
    const std::string name = fmt::format("{:03}.png", i);
    all["images"].push_back({{"id", i + 10}, {"file_name", name}, {"width", w}, {"height", h}});
    for (int k = 0; k < (i + scenes.bare < scenes.count ? 1 + i % 2 : 0); ++k) {
      const bool bar = k % 2 == 1;
      const int box_w = bar ? 12 : 28, box_h = bar ? 40 : 28;
      const int x = between(0, w - box_w), y = between(0, h - box_h);
      data::fill(image, {x, y, box_w, box_h},
                 bar ? data::Rgb{30, 60, 220} : data::Rgb{230, 40, 30});
      all["annotations"].push_back(
          {{"id", int(all["annotations"].size()) + 1},
           {"image_id", i + 10},
           {"category_id", bar ? 7 : 3},
           {"bbox", {x, y, box_w, box_h}},
           {"area", box_w * box_h},
           {"iscrowd", 0},
           {"segmentation", {{x, y, x + box_w, y, x + box_w, y + box_h, x, y + box_h}}}});
    }
    const auto png = data::encode_png(image);
    put(dir / split / name, {png.begin(), png.end()});
  }
  put(dir / "annotations" / ("instances_" + split + ".json"), all.dump());
}

}  // namespace sg::test
