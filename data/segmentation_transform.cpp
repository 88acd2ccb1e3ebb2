#include "data/segmentation_transform.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/error.h"

namespace sg::data {
namespace {

void mirror(uint8_t* pixels, int height, int width) {
  auto* row = reinterpret_cast<Rgb*>(pixels);
  for (int y = 0; y < height; ++y, row += width) std::reverse(row, row + width);
}

// Moves the dense rows at the begin of an image of `to` to where they belong, and fills the rest.
void pad(uint8_t* data, ImageSize from, ImageSize to, size_t pixel_bytes, uint8_t fill) {
  const size_t row = size_t(from.width) * pixel_bytes, pitch = size_t(to.width) * pixel_bytes;
  std::memset(data + size_t(from.height) * pitch, fill, size_t(to.height - from.height) * pitch);
  for (int y = from.height; row < pitch && y-- > 0;) {
    std::memmove(data + size_t(y) * pitch, data + size_t(y) * row, row);
    std::memset(data + size_t(y) * pitch + row, fill, pitch - row);
  }
}

class SegmentationWorker final : public SampleMaker::Worker {
 public:
  SegmentationWorker(const SegmentationDataset& dataset, const SegmentationTransformConfig& config)
      : dataset_(dataset), transform_(config) {}

  void make(const SampleDraw& draw, std::span<std::byte* const> out) override {
    const auto source = dataset_.open(draw.sample, bytes_);
    dataset_.read_label(draw.sample, {source->height(), source->width()}, label_bytes_, label_);
    std::array<int32_t, 2> valid;
    // Draws are keyed by sample; the copies of one take keys that no sample has.
    transform_.train(*source, label_, draw.seed, draw.epoch,
                     draw.sample + draw.copy * dataset_.size(),
                     reinterpret_cast<uint8_t*>(out[SegmentationSamples::kImages]), valid.data(),
                     reinterpret_cast<uint8_t*>(out[SegmentationSamples::kLabels]));
    std::memcpy(out[SegmentationSamples::kValid], valid.data(), sizeof valid);
  }

 private:
  const SegmentationDataset& dataset_;
  SegmentationTransform transform_;
  std::vector<uint8_t> bytes_, label_bytes_;
  LabelImage label_;
};

}  // namespace

ImageSize ImageScale::of(ImageSize image) const {
  const auto [shorter, longer] = std::minmax(image.height, image.width);
  const double factor = std::min(double(std::max(long_side, short_side)) / longer,
                                 double(std::min(long_side, short_side)) / shorter);
  const auto side = [&](int s) { return std::max(int(s * factor + 0.5), 1); };
  return {side(image.height), side(image.width)};
}

void SegmentationTransformConfig::check() const {
  const auto require = [](bool ok, std::string_view name, std::string_view expected, auto found) {
    if (!ok) fail(ExitCode::usage, "{}: expected {}, found {}", name, expected, found);
  };
  for (const int side : {crop.height, crop.width})
    require(side >= 1 && side <= 8192, "--img-size", "1 to 8192", side);
  for (const int side : {scale.long_side, scale.short_side})
    require(side >= 1 && side <= 65536, "--image-scale", "1 to 65536", side);
  require(ratio[0] > 0 && ratio[0] <= ratio[1] && ratio[1] <= 16 &&
              std::min(scale.long_side, scale.short_side) * ratio[0] >= 1,
          "--ratio-range", "0 < low <= high <= 16, and sides of a pixel or more",
          fmt::format("{} {}", ratio[0], ratio[1]));
  require(max_class_share > 0 && max_class_share <= 1, "--cat-max-ratio", "above 0, at most 1",
          max_class_share);
  require(hflip >= 0 && hflip <= 1, "--hflip", "a probability", hflip);
}

bool is_varied(std::span<const uint8_t> labels, double max_class_share) {
  if (max_class_share == 1) return true;
  // In turn, so that a count does not wait for that of the pixel before.
  std::array<std::array<int64_t, 256>, 4> parts{};
  for (size_t i = 0; i < labels.size(); ++i) ++parts[i % 4][labels[i]];
  int64_t classes = 0, most = 0, all = 0;
  for (size_t c = 0; c < kIgnoredLabel; ++c) {
    const int64_t pixels = parts[0][c] + parts[1][c] + parts[2][c] + parts[3][c];
    classes += pixels > 0, most = std::max(most, pixels), all += pixels;
  }
  return classes > 1 && double(most) / double(all) < max_class_share;
}

SegmentationTransform::SegmentationTransform(SegmentationTransformConfig config) : config_(config) {
  config_.check();
}

// The crop's label is left in label_.
Box SegmentationTransform::draw_crop(const LabelImage& source_label, ImageSize to, Random& random) {
  const int height = std::min(config_.crop.height, to.height);
  const int width = std::min(config_.crop.width, to.width);
  nearest_positions(source_label.height, to.height, 0, to.height, rows_);
  nearest_positions(source_label.width, to.width, 0, to.width, columns_);
  label_.resize(size_t(height) * size_t(width));
  Box box;
  for (int draws = 0; draws <= kCropRedraws; ++draws) {
    const int top = int(random.integer(0, to.height - height));
    const int left = int(random.integer(0, to.width - width));
    box = {left, top, width, height};
    gather_pixels(source_label.view(), std::span(rows_).subspan(size_t(top), size_t(height)),
                  std::span(columns_).subspan(size_t(left), size_t(width)), 1, label_.data());
    if (draws < kCropRedraws && is_varied(label_, config_.max_class_share)) break;
  }
  return box;
}

void SegmentationTransform::train(Source& source, const LabelImage& source_label, uint64_t seed,
                                  int64_t epoch, int64_t sample, uint8_t* image, int32_t* valid,
                                  uint8_t* label) {
  const auto random = [&](Purpose purpose) {
    return Random(seed, purpose, uint64_t(epoch), uint64_t(sample));
  };
  Random crop = random(Purpose::crop);
  const ImageSize size{source.height(), source.width()};
  const ImageSize to =
      config_.scale.times(crop.uniform(config_.ratio[0], config_.ratio[1])).of(size);
  const Box box = draw_crop(source_label, to, crop);
  const ImageSize kept{box.height, box.width};
  const Box used = BilinearResizer::source_box(size, to, box);
  resizer_(source.view(used, source_), used, size, to, box, 3, image);
  if (random(Purpose::flip).bernoulli(config_.hflip)) {
    mirror(image, kept.height, kept.width);
    for (auto row = label_.begin(); row != label_.end(); row += kept.width)
      std::reverse(row, row + kept.width);
  }
  if (config_.photometric) {
    Random colours = random(Purpose::color_jitter);
    distort({image, size_t(box.area()) * 3}, draw_photometric(colours));
  }
  std::ranges::copy(label_, label);
  pad(image, kept, config_.crop, 3, 0);
  pad(label, kept, config_.crop, 1, kIgnoredLabel);
  valid[0] = kept.height, valid[1] = kept.width;
}

SegmentationSamples::SegmentationSamples(std::shared_ptr<const SegmentationDataset> dataset,
                                         const SegmentationTransformConfig& config)
    : dataset_(std::move(dataset)), config_(config) {
  config_.check();
}

std::vector<SampleTensor> SegmentationSamples::tensors() const {
  const auto [height, width] = config_.crop;
  return {{{height, width, 3}, Dtype::u8}, {{2}, Dtype::i32}, {{height, width}, Dtype::u8}};
}

std::unique_ptr<SampleMaker::Worker> SegmentationSamples::worker(bool training) const {
  sg::check(training, "segmentation: samples of one size are for training alone");
  return std::make_unique<SegmentationWorker>(*dataset_, config_);
}

Image resize_for_evaluation(const ImageView& image, const ImageScale& scale, int align) {
  const auto aligned = [&](int side) { return (side + align - 1) / align * align; };
  const ImageSize kept = scale.of({image.height, image.width});
  const ImageSize to{aligned(kept.height), aligned(kept.width)};
  BilinearResizer resizer;
  Image out;
  out.reset(kept.height, kept.width);
  resizer(image, kept, 3, out.pixels.data());
  if (to == kept) return out;
  Image stretched;
  stretched.reset(to.height, to.width);
  resizer(out.view(), to, 3, stretched.pixels.data());
  return stretched;
}

}  // namespace sg::data
