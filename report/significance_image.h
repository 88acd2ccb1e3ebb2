// Significance maps drawn over the picture that they belong to.
#pragma once
#include <array>
#include <cstdint>
#include <vector>

#include "data/image.h"
#include "sgformer/model.h"

namespace sg::train {

// Violet over red to yellow for t from 0 to 1. Equal steps of t look equally large.
std::array<uint8_t, 3> significance_color(double t);

// The picture, and right of it the same in grey under the last map of each stage. `image` is what
// the network saw as number `sample` of its batch; a small one is enlarged to at least 224 pixels.
data::Image significance_panel(const data::Image& image,
                               const std::vector<sgformer::SignificanceMap>& maps, int sample);

}  // namespace sg::train
