#include "tasks/training_images.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "data/png_write.h"
#include "data/side_by_side.h"

namespace sg::tasks {
namespace {

const MixErase& change_of(const Tensor& changes, int64_t i) {
  return static_cast<const MixErase*>(changes.raw())[i];
}

data::Image image_of(const Tensor& images, int64_t i) {
  data::Image image;
  image.reset(int(images.dim(1)), int(images.dim(2)));
  std::memcpy(image.pixels.data(), images.data<uint8_t>() + i * int64_t(image.pixels.size()),
              image.pixels.size());
  return image;
}

// Image i of the batch, as the step mixes, normalizes and erases it; as pixels again, of which
// noise may leave the range.
data::Image changed_image(const AugmentedBatch& batch, int64_t i, const ChannelStats& stats) {
  const int64_t height = batch.images.dim(1), width = batch.images.dim(2);
  std::vector<MixErase> changes{change_of(batch.changes, i), {}};
  const int64_t partner = changes[0].partner;
  changes[0].partner = 1;
  Tensor pair = empty({2, height, width, 3}, Dtype::u8);
  pair.slice(0, 1).copy_(batch.images.slice(i, i + 1));
  pair.slice(1, 2).copy_(batch.images.slice(partner, partner + 1));
  const Tensor y = normalize_images(pair, stats, Dtype::f32, pack(changes, height, width));
  data::Image image;
  image.reset(int(height), int(width));
  for (size_t k = 0; k < image.pixels.size(); ++k) {
    const double v = double(y.data<float>()[k]) * stats.std[k % 3] + stats.mean[k % 3];
    image.pixels[k] = uint8_t(std::lround(255 * std::clamp(v, 0.0, 1.0)));
  }
  return image;
}

std::string target_in_words(const std::string& own, const std::string& partner, double lambda) {
  if (own == partner || lambda == 1) return own;
  return fmt::format("{:.2f} {} + {:.2f} {}", lambda, own, 1 - lambda, partner);
}

// "CutMix, erased"
std::string changes_in_words(const MixErase& c) {
  std::vector<std::string> words;
  if (!c.mixed.empty() && c.pixel_lambda < 1)
    words.push_back(c.pixel_lambda == 0 ? "CutMix" : "mixup");
  if (!c.erased[0].empty()) words.push_back("erased");
  return words.empty() ? "unchanged" : fmt::format("{}", fmt::join(words, ", "));
}

}  // namespace

Gallery training_images(const AugmentedBatch& batch, const ChannelStats& stats,
                        const data::ClassNames& names, const data::ClassTitles& titles,
                        int64_t count) {
  const bool changed = batch.changes.defined();
  Gallery g{.title = "What it learns from",
            .text = changed ? "Images of the last training batch after crop, flip and colours, and "
                              "beside them as the network sees them, mixed and erased, with their "
                              "targets before smoothing."
                            : "Images of the last training batch, as the network sees them.",
            .items = {},
            .wide = changed};
  const auto class_of = [&](int64_t i) {
    return data::titled(data::class_name(names, batch.labels.data<int32_t>()[i]), titles);
  };
  const int64_t size = batch.images.dim(0);
  for (int64_t k = 0; k < std::min(count, size); ++k) {
    const int64_t i = k * size / std::min(count, size);
    data::Image image = image_of(batch.images, i);
    std::string target = class_of(i), how;
    if (changed) {
      const MixErase& c = change_of(batch.changes, i);
      image = data::side_by_side({image, changed_image(batch, i, stats)});
      target = target_in_words(target, class_of(c.partner), double(c.label_lambda));
      how = changes_in_words(c);
    }
    const auto png = data::encode_png(image);
    g.items.push_back({.png = {png.begin(), png.end()},
                       .description = target,
                       .headline = target,
                       .note = how,
                       .good = {}});
  }
  return g;
}

}  // namespace sg::tasks
