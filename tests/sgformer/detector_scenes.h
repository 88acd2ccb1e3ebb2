// Detectors that are narrow enough for the literal reference, and what they are to find.
#pragma once
#include "core/rng.h"
#include "sgformer/detect/training.h"
#include "tools/golden/case.h"

namespace sg::test {

inline constexpr int64_t kSceneClasses = 3;

inline sgformer::DetectorConfig narrow_detector() {
  sgformer::DetectorConfig c{sgformer::find_config("sgformer_s"),
                             {.channels = 6, .hidden = 12, .classes = kSceneClasses}};
  c.backbone.name = "narrow";
  const int64_t dims[] = {8, 16, 16, 32};
  const int heads[] = {2, 2, 4, 4};
  for (size_t i = 0; i < 4; ++i) {
    c.backbone.stages[i].dim = dims[i];
    c.backbone.stages[i].heads = heads[i];
    c.backbone.stages[i].depth = i < 3 ? 2 : 1;
  }
  return c;
}

inline void fill(nn::ParameterStore& p) {
  for (const std::string& name : p.names())
    p.set(p.values(), name, golden::formula_parameter("detector", name, p.part(name).official));
}

// `n` objects that overlap: a small one in the lower right corner, whose mask ends at the
// padding, and others at random. Masks are quarters of ellipses.
inline sgformer::TrainingObjects scene(ImageSize image, ImageSize padded, int n, uint64_t seed) {
  Random random(seed, Purpose::test);
  sgformer::TrainingObjects objects{.image = image, .padded = padded};
  for (int i = 0; i < n; ++i) {
    const auto side = [&](int of_image) {
      const double length = (i == 0 ? 0.17 : random.uniform(0.2, 0.8)) * of_image;
      const double low = i == 0 ? of_image - length : random.uniform(0, of_image - length);
      return std::pair(float(low), float(low + length));
    };
    const auto [x1, x2] = side(image.width);
    const auto [y1, y2] = side(image.height);
    objects.boxes.push_back({x1, y1, x2, y2});
    objects.labels.push_back(int32_t(random.integer(0, kSceneClasses - 1)));
  }
  objects.mask = [image, boxes = objects.boxes](int64_t object, uint8_t* pixels) {
    const sgformer::Box<float>& b = boxes[size_t(object)];
    for (int y = 0; y < image.height; ++y)
      for (int x = 0; x < image.width; ++x) {
        const float left = (b.x2 - float(x)) / b.width(), up = (b.y2 - float(y)) / b.height();
        *pixels++ = left > 0 && up > 0 && left * left + up * up < 0.5f;
      }
  };
  return objects;
}

}  // namespace sg::test
