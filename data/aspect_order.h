// The order of images of any size in an epoch, such that those of a batch are alike.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "core/box.h"

namespace sg::data {

// Batches of `batch` images, one after the other: all of an image's are wider than high, or none
// is. Of each of the two kinds the images are in random order, and the first of them once more
// until they fill a multiple of batch * batches_of_step; so all batches are whole, and an image is
// in an epoch once or twice. The order of the batches is random too. A function of sizes, seed and
// epoch alone; mmdetection's rule (DistributedGroupSampler).
std::vector<int64_t> aspect_order(std::span<const ImageSize> images, int64_t batch,
                                  int64_t batches_of_step, uint64_t seed, int64_t epoch);

}  // namespace sg::data
