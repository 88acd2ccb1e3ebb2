// Which boxes of an image a loss takes: a limited number at random.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "core/rng.h"

namespace sg::sgformer {

struct SamplerSettings {
  int64_t number;     // of boxes, where there are as many
  int64_t positives;  // of them, at most
};
inline constexpr SamplerSettings kRpnSampler{256, 128}, kRoiSampler{512, 128};

struct Sample {
  std::vector<int32_t> positive, negative;  // indices of boxes, ascending
};

// `assigned`: as that of Assignment. All boxes of a sort are equally likely. `random` is a stream
// of this draw alone: of the seed, Purpose::rpn_sample or roi_sample, the step and the image.
Sample sample(std::span<const int32_t> assigned, const SamplerSettings& settings, Random random);

}  // namespace sg::sgformer
