// Random draws of mixup, CutMix and erasing for a training batch: timm's Mixup and RandomErasing
// as MixErase of mix_erase.h. Pure functions of (seed, step, position).
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "ops/normalize_images/mix_erase.h"

namespace sg {

// One lambda is drawn per group, per pair of images that are each other's partner, or per image.
enum class MixMode { batch, pair, elem };
// Throw ExitCode::usage; timm's names: batch, pair, elem; const, rand, pixel.
MixMode parse_mix_mode(std::string_view name);
EraseMode parse_erase_mode(std::string_view name);

struct MixEraseConfig {
  // Lambda is Beta(a, a); 0: no mixup, no CutMix.
  double mixup = 0.8, cutmix = 1.0;
  // Of CutMix: each side of the box is drawn evenly between these shares of the image's, and no
  // lambda.
  std::optional<std::array<double, 2>> cutmix_minmax{};
  double mix_probability = 1, switch_probability = 0.5;  // of any; of CutMix where there are both
  MixMode mode = MixMode::batch;
  // Images that are mixed among themselves: timm's batch of one process. An even number where there
  // is mixing.
  int64_t group = 128;

  double erase_probability = 0.25;
  EraseMode erase_mode = EraseMode::pixel;
  // Most boxes of an image, at most kMaxErased: how many is drawn evenly, and they share the area.
  int64_t erased_count = 1;
  std::array<double, 2> erased_area{0.02, 1.0 / 3};  // share of the image
  std::array<double, 2> erased_ratio{0.3, 1 / 0.3};  // height / width

  bool mixes() const { return (mixup > 0 || cutmix > 0) && mix_probability > 0; }
  void check() const;  // throws ExitCode::usage
};

// Beta(alpha, alpha), alpha > 0.
double draw_beta(double alpha, Random& random);

// The mixing of one group, the images `first`, `first` + 1, ... of a batch; an even number.
void draw_mixing(const MixEraseConfig& config, std::span<MixErase> group, int64_t first,
                 int64_t height, int64_t width, Random& random);

// None with probability 1 - erase_probability. Where ten attempts do not fit, a box is left out: it
// is less high and less wide than the image.
std::array<Box, kMaxErased> draw_erased_boxes(const MixEraseConfig& config, int64_t height,
                                              int64_t width, Random& random);

// Draws for `batch` images at the positions `position`, `position` + 1, ... of a step. Groups begin
// at multiples of `group`, and so does a batch that is mixed: images are changed alike however a
// step is cut into batches.
std::vector<MixErase> draw_mix_erase(const MixEraseConfig& config, uint64_t seed, int64_t step,
                                     int64_t position, int64_t batch, int64_t height,
                                     int64_t width);

}  // namespace sg
