// Pixels to numbers: (v - 255 mean[c]) / (255 std[c]).
#pragma once
#include <array>

#include "autograd/tape.h"
#include "core/slot.h"

namespace sg {

struct ChannelStats {  // ImageNet's, in units of the full range
  std::array<double, 3> mean{0.485, 0.456, 0.406}, std{0.229, 0.224, 0.225};
};

// pixels (B, H, W, 3) u8 -> (B, H, W, 3) f32 or f64. No gradient.
Tensor normalize(const Tensor& pixels, const ChannelStats& stats, Dtype dtype = Dtype::f32);

namespace kernels {
using Normalize = void(Stream&, In pixels, const ChannelStats&, Out y);
constinit inline Slot<Normalize> normalize{"normalize"};
}  // namespace kernels

}  // namespace sg
