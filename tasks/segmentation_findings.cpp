#include "tasks/segmentation_findings.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/text.h"
#include "data/label_panel.h"
#include "data/png_write.h"

namespace sg::tasks {
namespace {

using data::class_name;

constexpr int kMostShown = 480;  // pixels a side of an image in the report

std::string percent(double share) {
  return std::isnan(share) ? "-" : fmt::format("{:.2f} %", 100 * share);
}

// Of the pixels of class c that are taken for others.
std::string mostly_taken_for(const PixelConfusion& confusion, int64_t c,
                             const data::ClassNames& names) {
  const int64_t k = confusion.classes();
  const int64_t* row = confusion.counts().data() + c * k;
  int64_t most = -1;
  for (int64_t i = 0; i < k; ++i)
    if (i != c && row[i] > 0 && (most < 0 || row[i] > row[most])) most = i;
  if (most < 0) return "";
  return fmt::format("{} ({:.1f} %)", class_name(names, most),
                     100 * double(row[most]) / double(confusion.of(c).labelled));
}

std::string png_of(const data::Image& image) {
  const auto png = data::encode_png(image);
  return {png.begin(), png.end()};
}

}  // namespace

Table scores_by_class(const PixelConfusion& confusion, const data::ClassNames& names) {
  Table t{.title = "IoU by class",
          .text =
              "IoU: pixels that are labelled and predicted as the class, divided by those that "
              "are either, summed over all images at their own resolution. Ignored pixels are "
              "in neither. A class that is neither labelled nor predicted is absent (-) and "
              "not in the mean; one that is predicted but never labelled counts 0.",
          .columns = {"class", "pixels", "IoU", "accuracy", "mostly mistaken for"},
          .rows = {}};
  for (int64_t c = 0; c < confusion.classes(); ++c) {
    const ClassPixels pixels = confusion.of(c);
    t.rows.push_back({class_name(names, c), std::to_string(pixels.labelled), percent(pixels.iou()),
                      percent(pixels.accuracy()), mostly_taken_for(confusion, c, names)});
  }
  return t;
}

Matrix pixel_matrix(const PixelConfusion& confusion, const data::ClassNames& names) {
  Matrix m{.title = "Confusion",
           .text =
               "How many pixels of each class (row) were taken for which (column). The diagonal "
               "is right.",
           .row_axis = "is",
           .column_axis = "taken for",
           .names = {},
           .counts = confusion.counts()};
  for (int64_t c = 0; c < confusion.classes(); ++c) m.names.push_back(class_name(names, c));
  return m;
}

Gallery label_gallery(std::string title, std::string text, const std::vector<LabelledImage>& images,
                      const data::SegmentationDataset& dataset) {
  Gallery g{.title = std::move(title), .text = std::move(text), .items = {}, .wide = true};
  const data::ClassNames& names = dataset.class_names();
  std::vector<uint8_t> buffer;
  for (const LabelledImage& shown : images) {
    data::Image image;
    data::LabelImage truth;
    try {
      dataset.open(shown.score.index, buffer)->read(image);
      dataset.read_label(shown.score.index, {image.height, image.width}, buffer, truth);
    } catch (const Error&) {
      continue;  // it was there a moment ago
    }
    const std::string name = escape_name(dataset.name(shown.score.index));
    g.items.push_back(
        {.png = png_of(data::label_panel(image, {truth.pixels, shown.predicted.span<uint8_t>()},
                                         names, dataset.palette(), kMostShown)),
         .description = name + ": image, truth, prediction",
         .headline = fmt::format("mIoU {}", percent(shown.score.iou)),
         .note = fmt::format("{} of the pixels right\n{}", percent(shown.score.accuracy),
                             name.substr(name.find_last_of('/') + 1))});
  }
  return g;
}

Gallery training_crops(const Tensor& images, const Tensor& valid, const Tensor& labels,
                       const data::ClassNames& names, std::span<const data::Rgb> palette,
                       int64_t count) {
  Gallery g{.title = "What it learns from",
            .text =
                "Images of the last training batch as the network sees them, and their labels. "
                "Striped pixels, padding among them, are ignored.",
            .items = {},
            .wide = true};
  const int64_t batch = images.dim(0), h = images.dim(1), w = images.dim(2);
  count = std::min(count, batch);
  for (int64_t k = 0; k < count; ++k) {
    const int64_t i = k * batch / count;
    data::Image image;
    image.reset(int(h), int(w));
    std::memcpy(image.pixels.data(), images.data<uint8_t>() + i * h * w * 3, size_t(h * w * 3));
    const int32_t* size = valid.data<int32_t>() + 2 * i;
    g.items.push_back(
        {.png = png_of(data::label_panel(
             image, {labels.span<uint8_t>().subspan(size_t(i * h * w), size_t(h * w))}, names,
             palette, kMostShown)),
         .description = "a training crop and its labels",
         .headline = fmt::format("{} x {}", size[0], size[1]),
         .note = size[0] == h && size[1] == w ? "" : "of the image, the rest is padding"});
  }
  return g;
}

}  // namespace sg::tasks
