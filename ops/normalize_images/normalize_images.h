// Normalizes pixels: (v - 255 mean[c]) / (255 std[c]). In the same pass, images of a training batch
// are mixed and erased.
#pragma once
#include <array>

#include "autograd/tape.h"
#include "core/slot.h"
#include "ops/normalize_images/mix_erase.h"

namespace sg {

struct ChannelStats {  // ImageNet's, in units of the full range
  std::array<double, 3> mean{0.485, 0.456, 0.406}, std{0.229, 0.224, 0.225};
};

// pixels (B, H, W, 3) u8 -> (B, H, W, 3) f32, bf16, or on the CPU f64. No gradient.
// changes: undefined, or what pack() returned, on the device of the pixels: images are mixed
// (in f32, rounded to u8), normalized, and erased, in this order. A partner outside the batch
// throws ExitCode::data on the CPU and makes the image NaN on a device.
// valid: undefined, or i32 (B, 2) on that device: height and width of the part of an image that is
// no padding. Beyond it the result is 0.
// All devices give the same bits, except for the last bits of the noise.
Tensor normalize_images(const Tensor& pixels, const ChannelStats& stats, Dtype dtype = Dtype::f32,
                        const Tensor& changes = {}, const Tensor& valid = {});

namespace kernels {
using NormalizeImages = void(Stream&, In pixels, In changes, In valid, const ChannelStats&, Out y);
constinit inline Slot<NormalizeImages> normalize_images{"normalize_images"};
}  // namespace kernels

}  // namespace sg
