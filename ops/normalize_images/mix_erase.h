// Mixup, CutMix and random erasing of a training batch on the device: one MixErase per image, in a
// tensor, so that a captured step can be replayed with other values.
//
// draw_mix_erase.h draws them; the kernels of normalize_images change the pixels, and
// smooth_one_hot (ops/cross_entropy) the labels; tasks/classification.cpp calls all three.
#pragma once
#include <array>
#include <span>
#include <vector>

#include "core/box.h"
#include "core/rng.h"
#include "core/tensor.h"

namespace sg {

// What an erased box becomes, after normalization; timm calls them pixel, rand and const.
enum class EraseMode : int32_t {
  pixel,    // N(0, 1) for each pixel and channel: block i of the noise is for the i-th pixel
  colour,   // N(0, 1) for each channel of a box: block i is for the i-th box
  constant  // 0, the mean of the data
};
inline constexpr int kMaxErased = 8;  // boxes of an image

// By default the image is not changed.
struct MixErase {
  int32_t partner = 0;  // index in the batch of the image that is mixed in
  // Lambda of the targets: label_lambda own + (1 - label_lambda) partner's.
  float label_lambda = 1;
  Box mixed;               // where v becomes, rounded half to even,
  float pixel_lambda = 1;  // pixel_lambda v + (1 - pixel_lambda) partner's
  EraseMode erase_mode = EraseMode::pixel;
  RandomStream noise{};
  std::array<Box, kMaxErased> erased{};  // up to the first empty one; later ones cover earlier ones
};
static_assert(sizeof(MixErase) == 180);
inline constexpr int64_t kMixEraseWords = sizeof(MixErase) / 4;

// `group` are the changes of images `first`, `first` + 1, ... of the batch, an even number; the
// partner of the i-th is the i-th from the end.
//
// All pixels become lambda own + (1 - lambda) partner's; lambda in [0, 1].
void mixup(std::span<MixErase> group, int64_t first, double lambda, int64_t height, int64_t width);
// The partner's pixels stand in the box; label_lambda is the share of pixels outside it.
void cutmix(std::span<MixErase> group, int64_t first, const Box& box, int64_t height,
            int64_t width);
// CutMix's box around (y, x): 1 - lambda of the area, of even sides, cut at the border.
Box cutmix_box(double lambda, int64_t y, int64_t x, int64_t height, int64_t width);

// (B, kMixEraseWords) i32 on the CPU, the bytes of `changes`. Throws on a partner outside the
// batch, a lambda outside [0, 1] or a box that leaves the image: a device does not report them.
Tensor pack(const std::vector<MixErase>& changes, int64_t height, int64_t width);

// Throws unless `changes` is (batch, kMixEraseWords) i32 on `device`.
void check_changes(std::string_view op, const Tensor& changes, int64_t batch, Device device);

}  // namespace sg
