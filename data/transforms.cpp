#include "data/transforms.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace sg::data {
namespace {

// Python's round: half to even, the mode that C++ starts in.
int rounded(double v) { return int(std::nearbyint(v)); }

void flip_rows(ImageSpan image) {
  const size_t pitch = image.row_bytes();
  for (int y = 0; y < image.height / 2; ++y) {
    uint8_t* upper = image.pixels + size_t(y) * pitch;
    std::swap_ranges(upper, upper + pitch, image.pixels + size_t(image.height - 1 - y) * pitch);
  }
}

}  // namespace

std::string_view name_of(Interpolation i) {
  return i == Interpolation::bilinear  ? "bilinear"
         : i == Interpolation::bicubic ? "bicubic"
                                       : "random";
}

Interpolation parse_interpolation(std::string_view name) {
  for (auto i : {Interpolation::bilinear, Interpolation::bicubic, Interpolation::random})
    if (name == name_of(i)) return i;
  fail(ExitCode::usage, "interpolation: expected bilinear, bicubic or random, found {}", name);
}

void TransformConfig::check() const {
  const auto require = [](bool ok, std::string_view name, std::string_view expected, auto found) {
    if (!ok) fail(ExitCode::usage, "{}: expected {}, found {}", name, expected, found);
  };
  require(img_size >= 1 && img_size <= 8192, "img-size", "1 to 8192", img_size);
  require(scale[0] > 0 && scale[0] <= scale[1] && scale[1] <= 1, "scale", "0 < low <= high <= 1",
          fmt::format("{} {}", scale[0], scale[1]));
  require(ratio[0] > 0 && ratio[0] <= ratio[1] && std::isfinite(ratio[1]), "ratio",
          "0 < low <= high", fmt::format("{} {}", ratio[0], ratio[1]));
  require(hflip >= 0 && hflip <= 1, "hflip", "a probability", hflip);
  require(vflip >= 0 && vflip <= 1, "vflip", "a probability", vflip);
  require(color_jitter >= 0 && std::isfinite(color_jitter), "color-jitter", "at least 0",
          color_jitter);
  if (rand_augment) rand_augment->check();
  require(crop_pct > 0 && crop_pct <= 1, "crop-pct", "more than 0, at most 1", crop_pct);
}

Box random_resized_crop(int height, int width, const TransformConfig& config, Random& random) {
  const auto [low, high] = config.ratio;
  const double area = double(height) * width;
  for (int attempt = 0; attempt < 10; ++attempt) {
    const double target = random.uniform(config.scale[0], config.scale[1]) * area;
    const double ratio = std::exp(random.uniform(std::log(low), std::log(high)));
    const double w = std::nearbyint(std::sqrt(target * ratio));
    const double h = std::nearbyint(std::sqrt(target / ratio));
    if (w < 1 || h < 1 || w > width || h > height) continue;
    const int top = int(random.integer(0, height - int(h)));
    const int left = int(random.integer(0, width - int(w)));
    return {left, top, int(w), int(h)};
  }
  int w = width, h = height;
  const double ratio = double(width) / height;
  if (ratio < low) h = std::clamp(rounded(width / low), 1, height);
  if (ratio > high) w = std::clamp(rounded(height * high), 1, width);
  return {(width - w) / 2, (height - h) / 2, w, h};
}

Resize eval_resize(int height, int width, const TransformConfig& config) {
  const int size = config.img_size;
  const int64_t shorter = int64_t(std::floor(size / config.crop_pct));
  Resize r;
  r.filter = config.eval_filter;
  // The longer side is truncated.
  r.width = width <= height ? shorter : int64_t(double(shorter * width) / height);
  r.height = width <= height ? int64_t(double(shorter * height) / width) : shorter;
  r.window = {rounded(double(r.width - size) / 2), rounded(double(r.height - size) / 2), size,
              size};
  return r;
}

Transform::Transform(TransformConfig config) : config_(config) {
  config_.check();
  if (config_.rand_augment) rand_augment_.emplace(*config_.rand_augment);
}

void Transform::train(Source& source, uint64_t seed, int64_t epoch, int64_t sample, uint8_t* out) {
  if (config_.no_aug) {
    TransformConfig whole = config_;
    whole.crop_pct = 1;
    whole.eval_filter =
        config_.interpolation == Interpolation::bicubic ? Filter::bicubic : Filter::bilinear;
    return resized(source, eval_resize(source.height(), source.width(), whole), out);
  }
  const auto random = [&](Purpose purpose) {
    return Random(seed, purpose, uint64_t(epoch), uint64_t(sample));
  };
  Random crop = random(Purpose::crop);
  const Box box = random_resized_crop(source.height(), source.width(), config_, crop);
  const bool flip = random(Purpose::flip).bernoulli(config_.hflip);
  Filter filter =
      config_.interpolation == Interpolation::bilinear ? Filter::bilinear : Filter::bicubic;
  if (config_.interpolation == Interpolation::random &&
      random(Purpose::interpolation).bernoulli(0.5))
    filter = Filter::bilinear;
  source.read(box, pixels_);
  resizer_(pixels_.view(), Resize::whole(config_.img_size, config_.img_size, filter, flip), out);
  const ImageSpan image{out, config_.img_size, config_.img_size};
  if (random(Purpose::vertical_flip).bernoulli(config_.vflip)) flip_rows(image);
  if (rand_augment_) {
    Random augment = random(Purpose::augment);
    (*rand_augment_)(image, augment);
  } else if (config_.color_jitter > 0) {
    Random jitter = random(Purpose::color_jitter);
    color_jitter(image, config_.color_jitter, jitter);
  }
}

void Transform::eval(Source& source, uint8_t* out) {
  resized(source, eval_resize(source.height(), source.width(), config_), out);
}

void Transform::resized(Source& source, const Resize& resize, uint8_t* out) {
  const Box used = source_box(source.height(), source.width(), resize);
  source.read(used, pixels_);
  resizer_(pixels_.view(), used, source.height(), source.width(), resize, out);
}

Image load_eval_image(const std::string& path, const TransformConfig& config) {
  std::vector<uint8_t> bytes;
  read_bytes(path, bytes);
  Image image;
  image.reset(config.img_size, config.img_size);
  Transform(config).eval(*open_image(bytes, path), image.pixels.data());
  return image;
}

}  // namespace sg::data
