// How fast one core makes training images, and whether the loader's memory stays flat.
#pragma once
#include <memory>
#include <vector>

#include "data/dataset.h"
#include "data/labelled_images.h"
#include "data/loader.h"
#include "data/transforms.h"

namespace sg::benchmark {

// CPU time of one thread. The parts are differences between passes over the same images: up to the
// header, up to the decoded crop, without augmentation, and the whole chain.
struct LoaderSpeed {
  // Seconds an image, medians of the repeats: reading the file and its header; decoding the crop;
  // resizing and mirroring it; RandAugment or ColorJitter.
  double read = 0, decode = 0, resize = 0, augment = 0;
  double images_per_second = 0, without_augmentation = 0;  // medians of the repeats
  double slowest = 0, fastest = 0;                         // of the whole chain
  int64_t images = 0, broken = 0;                          // of the whole chain
};

// A repeat is 250 samples in the order of an epoch, going on where the one before ended.
LoaderSpeed benchmark_loader(const data::Dataset& dataset, const data::TransformConfig& config = {},
                             int repeats = 9);

struct LoaderMemory {
  int64_t batches;  // handed out by then
  size_t resident;  // bytes of the process
};

// After 1, 10, 100, ... batches of training, epoch after epoch, and at last after `batches`.
std::vector<LoaderMemory> loader_memory(std::shared_ptr<const data::SampleMaker> maker,
                                        const data::LoaderConfig& config, int64_t batches);

}  // namespace sg::benchmark
