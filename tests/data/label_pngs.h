// Folders of images and labels for tests of segmentation.
#pragma once
#include <functional>

#include "data/png_write.h"
#include "tests/data/images.h"
#include "tests/support/files.h"

namespace sg::test {

inline data::LabelImage labels_of(int height, int width,
                                  const std::function<uint8_t(int, int)>& f) {
  data::LabelImage label;
  label.reset(height, width);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) label.pixels[size_t(y * width + x)] = f(y, x);
  return label;
}

// A PNG whose numbers are those of the label.
inline std::string label_png(const data::LabelImage& label) {
  std::vector<data::Rgb> palette = data::class_palette(255);
  palette.push_back({255, 255, 255});
  return text(data::encode_label_png(label, palette));
}

inline void put_in_folder(const std::filesystem::path& path, const std::string& bytes) {
  std::filesystem::create_directories(path.parent_path());
  put(path, bytes);
}

// DIR/images/SPLIT/NAME.jpg and its label.
inline void put_pair(const std::filesystem::path& dir, const std::string& split,
                     const std::string& name, const data::LabelImage& label, uint64_t seed = 1) {
  put_in_folder(dir / "images" / split / (name + ".jpg"),
                text(jpeg(scene(label.height, label.width, seed))));
  put_in_folder(dir / "annotations" / split / (name + ".png"), label_png(label));
}

}  // namespace sg::test
