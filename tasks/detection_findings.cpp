#include "tasks/detection_findings.h"

#include <algorithm>

#include "core/text.h"
#include "data/label_image.h"
#include "data/png_write.h"
#include "data/side_by_side.h"

namespace sg::tasks {
namespace {

constexpr int kShownSide = 480;  // pixels of an image of the report

std::string png_of(const data::Image& image) {
  const auto png = data::encode_png(image);
  return {png.begin(), png.end()};
}

const data::Rgb& color_of(const std::vector<data::Rgb>& palette, int32_t label) {
  return palette[size_t(label) % palette.size()];
}

std::vector<data::Rgb> palette_of(const data::ClassNames& names) {
  return data::class_palette(std::clamp<int64_t>(int64_t(names.size()), 1, 255));
}

std::vector<data::DrawnObject> truth_of(const data::CocoDataset& dataset, int64_t i) {
  const std::vector<data::Rgb> palette = palette_of(dataset.class_names());
  std::vector<data::DrawnObject> drawn;
  for (const data::CocoObject* o : dataset.training_objects(i))
    drawn.push_back({o->box, dataset.annotations().mask(dataset.image(i), *o),
                     data::class_name(dataset.class_names(), o->label),
                     color_of(palette, o->label)});
  return drawn;
}

std::string number(double fraction) { return fraction < 0 ? "" : fixed(100 * fraction, 1); }

}  // namespace

std::vector<data::DrawnObject> drawn_objects(const std::vector<infer::FoundObject>& found,
                                             const data::ClassNames& names, double score) {
  const std::vector<data::Rgb> palette = palette_of(names);
  std::vector<data::DrawnObject> drawn;
  for (const infer::FoundObject& o : found)
    if (o.score >= score)
      drawn.push_back({o.box, o.mask,
                       fmt::format("{} {:.2f}", data::class_name(names, o.label), o.score),
                       color_of(palette, o.label)});
  return drawn;
}

Table scores_by_class(const CocoScores& boxes, const CocoScores& masks,
                      const data::CocoAnnotations& truth) {
  std::vector<int64_t> objects(boxes.classes.size(), 0);
  for (int64_t i = 0; i < truth.size(); ++i)
    for (const data::CocoObject& o : truth.objects(i)) objects[size_t(o.label)] += !o.crowd;
  Table table{.title = "Scores by class",
              .text =
                  "Objects of the validation set, without crowds, and the average precision of "
                  "boxes and masks in percent.",
              .columns = {"class", "objects", "box AP", "box AP50", "box AP75", "mask AP",
                          "mask AP50", "mask AP75"},
              .rows = {}};
  for (size_t c = 0; c < boxes.classes.size(); ++c) {
    const CocoScores::Class &box = boxes.classes[c], &mask = masks.classes[c];
    table.rows.push_back({data::class_name(truth.class_names(), int64_t(c)),
                          std::to_string(objects[c]), number(box.ap), number(box.ap50),
                          number(box.ap75), number(mask.ap), number(mask.ap50), number(mask.ap75)});
  }
  return table;
}

Gallery found_gallery(const infer::ObjectDetector& detect, const data::CocoDataset& dataset,
                      const std::vector<int64_t>& indices) {
  Gallery gallery{.title = "What it finds",
                  .text = fmt::format("Validation images with their objects, and with what is "
                                      "found in them with a score of at least {}.",
                                      kShownScore),
                  .items = {},
                  .wide = true};
  std::vector<uint8_t> buffer;
  for (const int64_t i : indices) {
    data::Image image;
    try {
      dataset.open(i, buffer)->read(image);
    } catch (const Error&) {
      continue;  // evaluation has counted and named it
    }
    const auto found = drawn_objects(detect(detect.view(image)), dataset.class_names());
    const std::vector<data::DrawnObject> truth = truth_of(dataset, i);
    gallery.items.push_back(
        {.png = png_of(data::side_by_side({data::draw_objects(image, truth, kShownSide),
                                           data::draw_objects(image, found, kShownSide)})),
         .description = "An image with its objects, and with those that were found",
         .headline = escape_name(dataset.key(i)),
         .note = fmt::format("{} objects, {} found", truth.size(), found.size())});
  }
  return gallery;
}

Gallery training_objects(const data::DetectionBatch& batch, const data::CocoDataset& dataset,
                         size_t count) {
  Gallery gallery{.title = "Training images",
                  .text = "The last batch as the network sees it, padding left out.",
                  .items = {},
                  .wide = true};
  const std::vector<data::Rgb> palette = palette_of(dataset.class_names());
  const Tensor& images = batch.padded.images;
  const auto* valid = batch.padded.valid.data<int32_t>();
  for (size_t b = 0; b < std::min(batch.objects.size(), count); ++b) {
    const int height = valid[2 * b], width = valid[2 * b + 1];
    const data::ImageView padded{
        images.data<uint8_t>() + b * images.bytes() / size_t(images.dim(0)), int(images.dim(1)),
        int(images.dim(2)), size_t(images.dim(2)) * 3};
    data::Image image;
    image.reset(height, width);
    for (int y = 0; y < height; ++y) std::copy_n(padded.row(y), image.view().stride, image.row(y));
    std::vector<data::DrawnObject> drawn;
    for (const data::DetectionObject& o : batch.objects[b])
      drawn.push_back({{o.box[0], o.box[1], o.box[2] - o.box[0], o.box[3] - o.box[1]},
                       o.mask,
                       data::class_name(dataset.class_names(), o.label),
                       color_of(palette, o.label)});
    gallery.items.push_back({.png = png_of(data::draw_objects(image, drawn, kShownSide)),
                             .description = "A training image with its objects",
                             .headline = escape_name(dataset.key(batch.indices[b])),
                             .note = fmt::format("{} objects", drawn.size())});
  }
  return gallery;
}

}  // namespace sg::tasks
