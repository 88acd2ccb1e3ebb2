// Significance maps drawn over the image that they belong to.
#pragma once
#include <array>
#include <cstdint>
#include <vector>

#include "core/tensor.h"
#include "data/image.h"

namespace sg::report {

// Violet over red to yellow for t from 0 to 1. Equal steps of t look equally large.
data::Rgb significance_color(double t);

// The image as the network saw it, and right of it the same in grey under each of the maps (H, W),
// f32 on the CPU. A small image is enlarged to at least 224 pixels.
data::Image significance_panel(const data::Image& image, const std::vector<Tensor>& maps);

}  // namespace sg::report
