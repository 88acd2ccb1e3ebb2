// What happens to the images of a training batch on the device: each may be mixed with another
// (mixup, CutMix) and erased in part. One record an image, in a tensor, so that a recorded step
// runs again with other values.
#pragma once
#include <span>
#include <vector>

#include "core/box.h"
#include "core/rng.h"
#include "core/tensor.h"

namespace sg {

// By default the image stays as it is.
struct MixErase {
  int32_t partner = 0;  // index in the batch of the image that is mixed in
  float share = 1;      // of the own label in the targets; the partner's has the rest
  Box mixed;            // where v becomes round(weight v + (1 - weight) partner's), half to even
  float weight = 1;
  Box erased;            // where N(0, 1) noise stands, after normalising
  RandomStream noise{};  // block i of the stream is for the i-th pixel, row by row
};
static_assert(sizeof(MixErase) == 64);

// `group` are the changes of images `first`, `first` + 1, ... of the batch, an even number; the
// partner of the i-th is the i-th from the end.
//
// All pixels become lambda own + (1 - lambda) partner's; lambda in [0, 1].
void mixup(std::span<MixErase> group, int64_t first, double lambda, int64_t height, int64_t width);
// The partner's pixels stand in a box around (y, x) of 1 - lambda of the area, of even sides and
// cut at the border; `share` is that of the pixels that stay.
void cutmix(std::span<MixErase> group, int64_t first, double lambda, int64_t y, int64_t x,
            int64_t height, int64_t width);

// (B, 16) i32 on the CPU, the records' bytes. Throws on a partner outside the batch, a weight or
// share outside [0, 1] or a box that leaves the image: a device does not report them.
Tensor pack(const std::vector<MixErase>& changes, int64_t height, int64_t width);

// Throws unless `changes` is (batch, 16) i32 on `device`.
void check_changes(std::string_view op, const Tensor& changes, int64_t batch, Device device);

}  // namespace sg
