#include "tasks/pixel_confusion.h"

#include <cmath>
#include <numeric>

#include "core/error.h"
#include "tasks/metrics.h"

namespace sg::tasks {

double ClassPixels::iou() const {
  return absent() ? NAN : double(right) / double(labelled + predicted - right);
}

double ClassPixels::accuracy() const { return labelled ? double(right) / double(labelled) : NAN; }

PixelConfusion::PixelConfusion(int64_t classes, int ignore)
    : classes_(classes), ignore_(ignore), counts_(size_t(classes * classes)) {
  check(classes > 0 && classes <= 255, "pixel confusion: expected 1 to 255 classes, found {}",
        classes);
}

void PixelConfusion::add(std::span<const uint8_t> labels, std::span<const uint8_t> predictions) {
  check(labels.size() == predictions.size(), "pixel confusion: {} labels, {} predictions",
        labels.size(), predictions.size());
  for (size_t i = 0; i < labels.size(); ++i) {
    const int64_t label = labels[i], predicted = predictions[i];
    if (label == ignore_) continue;
    if (label >= classes_)
      fail(ExitCode::data, "label {} of a pixel: expected a class below {}, or {} (ignored)", label,
           classes_, ignore_);
    check(predicted < classes_, "pixel confusion: class {} of {} was predicted", predicted,
          classes_);
    ++counts_[size_t(label * classes_ + predicted)];
  }
}

void PixelConfusion::add(std::span<const int64_t> counts) {
  check(counts.size() == counts_.size(), "pixel confusion: {} counts, expected {}", counts.size(),
        counts_.size());
  for (size_t i = 0; i < counts.size(); ++i) counts_[i] += counts[i];
}

ClassPixels PixelConfusion::of(int64_t c) const {
  ClassPixels pixels{.right = counts_[size_t(c * classes_ + c)]};
  for (int64_t k = 0; k < classes_; ++k) {
    pixels.labelled += counts_[size_t(c * classes_ + k)];
    pixels.predicted += counts_[size_t(k * classes_ + c)];
  }
  return pixels;
}

int64_t PixelConfusion::pixels() const {
  return std::accumulate(counts_.begin(), counts_.end(), int64_t{0});
}

PixelScores PixelConfusion::scores() const {
  Mean iou, accuracy;
  int64_t right = 0;
  for (int64_t c = 0; c < classes_; ++c) {
    const ClassPixels pixels = of(c);
    right += pixels.right;
    if (!pixels.absent()) iou.add(pixels.iou());
    if (pixels.labelled) accuracy.add(pixels.accuracy());
  }
  const int64_t all = pixels();
  return {all ? double(right) / double(all) : NAN, accuracy.value(), iou.value()};
}

}  // namespace sg::tasks
