#include "data/transforms/color_jitter.h"

#include <algorithm>
#include <array>

#include "data/transforms/enhance.h"

namespace sg::data {

void color_jitter(ImageSpan image, double strength, Random& random) {
  std::array adjust{adjust_brightness, adjust_contrast, adjust_saturation};
  for (size_t i = adjust.size(); i-- > 1;)
    std::swap(adjust[i], adjust[size_t(random.integer(0, int64_t(i)))]);
  for (const auto f : adjust) f(image, random.uniform(std::max(0.0, 1 - strength), 1 + strength));
}

}  // namespace sg::data
