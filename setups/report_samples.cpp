#include "setups/report_samples.h"

#include <algorithm>

#include "core/rng.h"
#include "data/png_write.h"
#include "report/significance_image.h"
#include "tasks/detection_findings.h"

namespace sg::setups {
namespace {

constexpr data::ImageScale kShownScale{384, 384};  // of a page that is still quick to open

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

Gallery empty_gallery() {
  return {.title = "Where it looks",
          .text =
              "Validation images, each followed by the significance that guides attention at the "
              "stages of the network: what is bright keeps its detail, what is dark is summarised.",
          .items = {},
          .wide = true};
}

std::string png_of(const data::Image& image, const std::vector<Tensor>& significance) {
  const auto png = data::encode_png(report::significance_panel(image, significance));
  return {png.begin(), png.end()};
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
  Gallery samples = empty_gallery();
  const std::vector<infer::Prediction> predictions = predict(images, true);
  for (size_t i = 0; i < images.size(); ++i) {
    const infer::ClassProbability best = infer::top_classes(predictions[i], 1)[0];
    const int64_t truth = dataset.label(indices[i]);
    const std::string is = class_name(dataset, titles, truth);
    const bool right = best.index == truth;
    samples.items.push_back({.png = png_of(images[i], predictions[i].significance),
                             .description = is + " and its significance",
                             .headline = class_name(dataset, titles, best.index),
                             .note = fmt::format("{:.0f} %{}", 100 * best.probability,
                                                 right ? "" : ", but it is " + is),
                             .good = right});
  }
  return samples;
}

Gallery report_samples(const infer::Segmenter& segment, const data::SegmentationDataset& dataset,
                       int count) {
  Gallery samples = empty_gallery();
  std::vector<uint8_t> buffer;
  for (const int64_t i : choose(dataset.size(), count)) {
    data::Image image;
    try {
      dataset.open(i, buffer)->read(image);
    } catch (const Error&) {
      continue;  // evaluation has counted and named it
    }
    const auto significance = segment(segment.views(image), true).significance;
    if (std::max(image.height, image.width) > kShownScale.long_side)
      image = data::resize_for_evaluation(image.view(), kShownScale, 1);
    samples.items.push_back({.png = png_of(image, significance),
                             .description = "An image and its significance",
                             .headline = dataset.key(i),
                             .note = ""});
  }
  return samples;
}

Gallery report_samples(const infer::ObjectDetector& detect, const data::CocoDataset& dataset,
                       int count) {
  return tasks::found_gallery(detect, dataset, choose(dataset.size(), count));
}

}  // namespace sg::setups
