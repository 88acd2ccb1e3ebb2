#include "data/transforms/color_jitter.h"

#include <algorithm>

#include "data/transforms/enhance.h"

namespace sg::data {

ColorJitter draw_color_jitter(double strength, Random& random) {
  ColorJitter jitter;
  for (size_t i = jitter.order.size(); i-- > 1;)
    std::swap(jitter.order[i], jitter.order[size_t(random.integer(0, int64_t(i)))]);
  for (const int which : jitter.order)
    jitter.factors[size_t(which)] = random.uniform(std::max(0.0, 1 - strength), 1 + strength);
  return jitter;
}

void color_jitter(ImageSpan image, const ColorJitter& jitter) {
  constexpr std::array kAdjust{adjust_brightness, adjust_contrast, adjust_saturation};
  for (const int which : jitter.order) kAdjust[size_t(which)](image, jitter.factors[size_t(which)]);
}

}  // namespace sg::data
