#include "setups/report_samples.h"

#include <algorithm>

#include "core/rng.h"
#include "data/png_write.h"
#include "report/significance_image.h"

namespace sg::setups {
namespace {

// Indices in order of the dataset, the same every time.
std::vector<int64_t> choose(int64_t size, int count) {
  std::vector<int64_t> chosen;
  Random random(0, Purpose::order, uint64_t(size));
  for (int64_t i = 0, n = std::min<int64_t>(count, size); i < n; ++i)
    chosen.push_back(random.integer(size * i / n, size * (i + 1) / n - 1));
  return chosen;
}

std::string class_name(const data::Dataset& dataset, const data::ClassTitles& titles, int64_t c) {
  return data::titled(data::class_name(dataset.class_names(), c), titles);
}

}  // namespace

Gallery report_samples(const infer::Predictor& predict, const data::Dataset& dataset,
                       const data::ClassTitles& titles, int count) {
  data::Transform transform(predict.preprocessing().transform);
  const auto [height, width] = transform.config().img_size;
  std::vector<int64_t> indices;
  std::vector<data::Image> images;
  std::vector<uint8_t> buffer;
  for (const int64_t i : choose(dataset.size(), count)) {
    data::Image image;
    image.reset(height, width);
    try {
      transform.eval(*dataset.open(i, buffer), image.pixels.data());
    } catch (const Error&) {
      continue;  // evaluation has counted and named it
    }
    indices.push_back(i), images.push_back(std::move(image));
  }
  Gallery samples{
      .title = "Where it looks",
      .text =
          "Validation images, each followed by the significance that guides attention at the "
          "stages of the network: what is bright keeps its detail, what is dark is summarised.",
      .items = {},
      .wide = true};
  const std::vector<infer::Prediction> predictions = predict(images, true);
  for (size_t i = 0; i < images.size(); ++i) {
    const infer::ClassProbability best = infer::top_classes(predictions[i], 1)[0];
    const int64_t truth = dataset.label(indices[i]);
    const auto png =
        data::encode_png(report::significance_panel(images[i], predictions[i].significance));
    const std::string is = class_name(dataset, titles, truth);
    const bool right = best.index == truth;
    samples.items.push_back({.png = std::string(png.begin(), png.end()),
                             .description = is + " and its significance",
                             .headline = class_name(dataset, titles, best.index),
                             .note = fmt::format("{:.0f} %{}", 100 * best.probability,
                                                 right ? "" : ", but it is " + is),
                             .good = right});
  }
  return samples;
}

}  // namespace sg::setups
