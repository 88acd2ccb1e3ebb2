// Mixup, CutMix and random erasing of a training batch on the device: one MixErase per image, in a
// tensor, so that a captured step can be replayed with other values.
//
// draw_mix_erase.h draws them; the kernels of normalize_images change the pixels, and
// smooth_one_hot (ops/cross_entropy) the labels; tasks/classification.cpp calls all three.
#pragma once
#include <span>
#include <vector>

#include "core/box.h"
#include "core/rng.h"
#include "core/tensor.h"

namespace sg {

// By default the image is not changed.
struct MixErase {
  int32_t partner = 0;  // index in the batch of the image that is mixed in
  // Lambda of the targets: label_lambda own + (1 - label_lambda) partner's.
  float label_lambda = 1;
  Box mixed;               // where v becomes, rounded half to even,
  float pixel_lambda = 1;  // pixel_lambda v + (1 - pixel_lambda) partner's
  Box erased;              // where N(0, 1) noise is written, after normalization
  RandomStream noise{};    // block i of the stream is for the i-th pixel, row by row
};
static_assert(sizeof(MixErase) == 64);

// `group` are the changes of images `first`, `first` + 1, ... of the batch, an even number; the
// partner of the i-th is the i-th from the end.
//
// All pixels become lambda own + (1 - lambda) partner's; lambda in [0, 1].
void mixup(std::span<MixErase> group, int64_t first, double lambda, int64_t height, int64_t width);
// The partner's pixels stand in a box around (y, x) of 1 - lambda of the area, of even sides and
// cut at the border; label_lambda is the fraction of pixels outside it.
void cutmix(std::span<MixErase> group, int64_t first, double lambda, int64_t y, int64_t x,
            int64_t height, int64_t width);

// (B, 16) i32 on the CPU, the bytes of `changes`. Throws on a partner outside the batch, a lambda
// outside [0, 1] or a box that leaves the image: a device does not report them.
Tensor pack(const std::vector<MixErase>& changes, int64_t height, int64_t width);

// Throws unless `changes` is (batch, 16) i32 on `device`.
void check_changes(std::string_view op, const Tensor& changes, int64_t batch, Device device);

}  // namespace sg
