// From an image to the img_size pixels that a network sees. What is drawn at random is
// a function of (seed, epoch, sample) alone.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/rng.h"
#include "data/decode.h"
#include "data/resize.h"
#include "data/transforms/color_jitter.h"
#include "data/transforms/rand_augment.h"

namespace sg::data {

enum class Interpolation { bilinear, bicubic, random };  // random: one or the other, 50/50
std::string_view name_of(Interpolation interpolation);
Interpolation parse_interpolation(std::string_view name);  // throws ExitCode::usage

struct TransformConfig {
  ImageSize img_size = 224;
  // Training: RandomResizedCrop, mirroring, then RandAugment or, without it, ColorJitter, then
  // grey.
  std::array<double, 2> scale{0.08, 1.0};             // share of the area
  std::array<double, 2> ratio{3.0 / 4.0, 4.0 / 3.0};  // width / height
  double hflip = 0.5, vflip = 0;                      // probabilities
  std::optional<RandAugmentConfig> rand_augment;
  double color_jitter = 0;  // 0: none
  double color_jitter_prob = 1, grayscale_prob = 0;
  Interpolation interpolation = Interpolation::random;
  // Training without any of this: whole images, squeezed to img_size as timm does it.
  bool no_aug = false;
  // Evaluation: the shorter side becomes floor(img_size / crop_pct), then a central crop. Where
  // img_size is no square, the image is made as small as covers floor(img_size / crop_pct).
  double crop_pct = 0.9;
  Filter eval_filter = Filter::bicubic;

  void check() const;  // throws ExitCode::usage
};

// At most ten draws of an area and a ratio that fit; else a central crop of the nearest ratio.
Box random_resized_crop(int height, int width, const TransformConfig& config, Random& random);

// The crop resized, as one window of the resized image.
Resize eval_resize(int height, int width, const TransformConfig& config);

// Holds scratch memory between calls; one per thread.
class Transform {
 public:
  explicit Transform(TransformConfig config);
  const TransformConfig& config() const { return config_; }

  // Both write (img_size.height, img_size.width, 3) dense.
  void train(Source& source, uint64_t seed, int64_t epoch, int64_t sample, uint8_t* out);
  void eval(Source& source, uint8_t* out);

 private:
  void resized(Source& source, const Resize& resize, uint8_t* out);

  TransformConfig config_;
  Image scratch_;
  Resizer resizer_;
  std::optional<RandAugment> rand_augment_;
};

// One file as evaluation sees it.
Image load_eval_image(const std::string& path, const TransformConfig& config = {});
// The part of it that evaluation sees, in its own pixels; made smaller where a side is longer than
// `most`.
Image load_eval_region(const std::string& path, const TransformConfig& config, int most);

}  // namespace sg::data
