#include "data/detection_transform.h"

#include <algorithm>
#include <numeric>

#include "core/error.h"

namespace sg::data {
namespace {

constexpr int kLongSide = 1333;
constexpr int kShortSides = 11;  // 480, 512, ... 800
constexpr int kShortBegin = 480, kShortStep = 32;
constexpr int kCropFrom = 384, kCropTo = 600;  // sides of a crop, of an image as large

ImageScale draw_scale(Random& random) {
  return {kLongSide, kShortBegin + kShortStep * int(random.integer(0, kShortSides - 1))};
}

void mirror(Image& image) {
  for (int y = 0; y < image.height; ++y) {
    auto* row = reinterpret_cast<Rgb*>(image.row(y));
    std::reverse(row, row + image.width);
  }
}

// What happens to all coordinates of an image: pixels of masks, which row and column each comes
// from, and boxes.
class Geometry {
 public:
  explicit Geometry(ImageSize size)
      : size_(size), rows_(size_t(size.height)), columns_(size_t(size.width)) {
    std::iota(rows_.begin(), rows_.end(), 0);
    std::iota(columns_.begin(), columns_.end(), 0);
  }

  void flip(std::vector<DetectionObject>& objects) {
    std::ranges::reverse(columns_);
    const auto width = float(size_.width);
    for (DetectionObject& o : objects) {
      const float left = width - o.box[2];
      o.box[2] = width - o.box[0], o.box[0] = left;
    }
  }

  // Each side by its own factor, of which rounding makes two.
  void resize(ImageSize to, std::vector<DetectionObject>& objects) {
    const auto x = float(double(to.width) / size_.width),
               y = float(double(to.height) / size_.height);
    pick(rows_, size_.height, to.height), pick(columns_, size_.width, to.width);
    size_ = to;
    for (DetectionObject& o : objects) {
      for (size_t d = 0; d < 4; ++d) o.box[d] *= d % 2 ? y : x;
      clip(o.box);
    }
  }

  void crop(const Box& box, std::vector<DetectionObject>& objects) {
    keep(rows_, box.top, box.height), keep(columns_, box.left, box.width);
    size_ = {box.height, box.width};
    for (DetectionObject& o : objects) {
      for (size_t d = 0; d < 4; ++d) o.box[d] -= float(d % 2 ? box.top : box.left);
      clip(o.box);
    }
    std::erase_if(objects, [](const DetectionObject& o) {
      return !(o.box[2] > o.box[0] && o.box[3] > o.box[1]);
    });
  }

  RleMask mask(const RleMask& of) const { return rle_gather(of, rows_, columns_); }

 private:
  static void pick(std::vector<int>& from, int source, int to) {
    std::vector<int> positions;
    nearest_positions(source, to, 0, to, positions);
    for (int& p : positions) p = from[size_t(p)];
    from = std::move(positions);
  }
  static void keep(std::vector<int>& from, int begin, int count) {
    from = {from.begin() + begin, from.begin() + begin + count};
  }
  void clip(std::array<float, 4>& box) const {
    for (size_t d = 0; d < 4; ++d)
      box[d] = std::clamp(box[d], 0.f, float(d % 2 ? size_.height : size_.width));
  }

  ImageSize size_;
  std::vector<int> rows_, columns_;
};

}  // namespace

DetectionDraw draw_detection(const DetectionTransformConfig& config, ImageSize image, uint64_t seed,
                             int64_t epoch, int64_t sample) {
  const auto stream = [&](Purpose purpose) {
    return Random(seed, purpose, uint64_t(epoch), uint64_t(sample));
  };
  DetectionDraw draw{.flip = stream(Purpose::flip).bernoulli(config.hflip)};
  if (!config.multi_scale) {
    draw.to = config.scale.of(image);
    return draw;
  }
  Random random = stream(Purpose::crop);
  if (random.bernoulli(0.5)) {
    constexpr int kBefore[] = {400, 500, 600};
    const ImageSize of = ImageScale{kLongSide, kBefore[random.integer(0, 2)]}.of(image);
    const auto side = [&](int whole) {
      return int(random.integer(std::min(whole, kCropFrom), std::min(whole, kCropTo)));
    };
    const int height = side(of.height), width = side(of.width);
    const int top = int(random.integer(0, of.height - height));
    const int left = int(random.integer(0, of.width - width));
    draw.crop = {of, {left, top, width, height}};
    image = {height, width};
  }
  draw.to = draw_scale(random).of(image);
  return draw;
}

void DetectionTransform::resize(Image& image, ImageSize to, const Box& window) {
  scratch_.reset(window.height, window.width);
  const ImageSize from{image.height, image.width};
  resizer_(image.view(), {0, 0, from.width, from.height}, from, to, window, 3,
           scratch_.pixels.data());
  std::swap(image, scratch_);
}

void DetectionTransform::apply(const DetectionDraw& draw, Image& image,
                               std::vector<DetectionObject> objects, DetectionSample& out) {
  const auto whole = [](ImageSize s) { return Box{0, 0, s.width, s.height}; };
  // mmdetection mirrors after resizing, but before where there are several scales; the bytes
  // differ.
  const bool flip_first = draw.flip && config_.multi_scale, flip_last = draw.flip && !flip_first;
  Geometry geometry({image.height, image.width});
  if (flip_first) mirror(image), geometry.flip(objects);
  if (draw.crop) {
    resize(image, draw.crop->of, draw.crop->box);
    geometry.resize(draw.crop->of, objects), geometry.crop(draw.crop->box, objects);
  }
  resize(image, draw.to, whole(draw.to));
  geometry.resize(draw.to, objects);
  if (flip_last) mirror(image), geometry.flip(objects);
  for (DetectionObject& o : objects) o.mask = geometry.mask(o.mask);
  std::swap(out.image, image);
  out.objects = std::move(objects);
}

void DetectionTransform::train(const CocoDataset& dataset, int64_t i, uint64_t seed, int64_t epoch,
                               DetectionSample& out) {
  dataset.open(i, bytes_)->read(source_);
  const int64_t image = dataset.image(i);
  std::vector<DetectionObject> objects;
  for (const CocoObject* o : dataset.training_objects(i)) {
    const auto& [x, y, width, height] = o->box;
    objects.push_back({o->label,
                       {float(x), float(y), float(x + width), float(y + height)},
                       dataset.annotations().mask(image, *o)});
  }
  apply(draw_detection(config_, dataset.image_size(i), seed, epoch, i), source_, std::move(objects),
        out);
}

}  // namespace sg::data
