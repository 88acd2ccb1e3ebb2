// Training images for the report: what the augmentations make of them and of their targets.
#pragma once
#include "core/findings.h"
#include "core/tensor.h"
#include "data/class_names.h"
#include "ops/normalize_images/normalize_images.h"

namespace sg::tasks {

// A batch as a step had it: images (B, H, W, 3) u8, labels (B) i32, and the changes of its images
// as pack() made them, or undefined. All on the CPU.
struct AugmentedBatch {
  Tensor images, labels, changes;
};

// At most `count` images spread over the batch, each before and, where there are changes, after
// mixing and erasing, with its target in words, without smoothing: "0.70 cat + 0.30 dog".
Gallery training_images(const AugmentedBatch& batch, const ChannelStats& stats,
                        const data::ClassNames& names, const data::ClassTitles& titles,
                        int64_t count = 8);

}  // namespace sg::tasks
