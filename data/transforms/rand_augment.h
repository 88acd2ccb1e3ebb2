// RandAugment as timm has it: of each image, `n` operations are drawn from a set of 15, and each is
// applied with a probability, at a level from 0 to 10.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "core/rng.h"
#include "data/image.h"
#include "data/transforms/affine.h"

namespace sg::data {

enum class AugmentOp {
  autocontrast,
  equalize,
  invert,
  rotate,
  posterize,
  solarize,
  solarize_add,
  color,
  contrast,
  brightness,
  sharpness,
  shear_x,
  shear_y,
  translate_x,
  translate_y
};
constexpr int kAugmentOps = 15;

// Chances of the operations. w0 is of timm 0.3, tweights of timm 1.0, always of the increasing set.
// With either no operation is drawn twice for an image.
enum class AugmentWeights { even, w0, tweights };

// The settings of a policy such as "rand-m9-mstd0.5-inc1"; the default is that of "rand".
struct RandAugmentConfig {
  int ops = 2;                // n: operations drawn an image
  double magnitude = 10;      // m: their level
  double magnitude_std = 0;   // mstd: of a normal level; infinite: uniform from 0 to `magnitude`
  double magnitude_max = 10;  // mmax: levels are clipped to [0, magnitude_max]
  double probability = 0.5;   // p: that a drawn operation is applied
  bool increasing = false;    // inc: all operations change more at a higher level
  AugmentWeights weights = AugmentWeights::even;

  // Not part of the policy.
  Rgb fill{124, 116, 104};       // of pixels from outside the image: round(255 mean)
  std::optional<Filter> filter;  // of geometric operations; empty: one or the other, 50/50 a call

  void check() const;  // throws ExitCode::usage
  bool operator==(const RandAugmentConfig&) const = default;
};

// Sections by '-', in any order after "rand"; inc0 means inc1, as in timm 0.3, whose recipe this
// is, and mmax0 means mmax10. Throws ExitCode::usage and names the section, and for other kinds of
// policies what there is instead.
RandAugmentConfig parse_rand_augment(std::string_view policy);

// One operation that was drawn. `value` is degrees (rotate), bits (posterize), a threshold
// (solarize), a sum (solarize_add), a factor (color to sharpness, shears), a share of the side
// (translations).
struct AugmentStep {
  AugmentOp op = AugmentOp::autocontrast;
  bool applied = false;
  double value = 0;
  Filter filter = Filter::bilinear;
};

// Holds scratch memory between calls; one per thread.
class RandAugment {
 public:
  explicit RandAugment(const RandAugmentConfig& config);

  // Draws the operations of one image; nothing else is random. Valid until the next call.
  std::span<const AugmentStep> draw(Random& random);
  // In place.
  void apply(const AugmentStep& step, ImageSpan image);
  void operator()(ImageSpan image, Random& random);

 private:
  AugmentOp draw_op(Random& random) const;

  RandAugmentConfig config_;
  std::vector<AugmentStep> steps_;
  std::vector<uint8_t> scratch_;
};

}  // namespace sg::data
