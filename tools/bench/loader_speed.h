// How fast one core makes training images: read, decode, crop, resize, mirror.
#pragma once
#include "data/dataset.h"
#include "data/transforms.h"

namespace sg::benchmark {

struct LoaderSpeed {
  double images_per_second = 0;     // of one thread, median of the repeats
  double slowest = 0, fastest = 0;  // of the repeats
  int64_t images = 0, broken = 0;   // in all
};

// Goes through the samples in the order of an epoch, over and over, for `seconds` a repeat.
LoaderSpeed benchmark_loader(const data::Dataset& dataset, const data::TransformConfig& config = {},
                             double seconds = 2, int repeats = 5);

}  // namespace sg::benchmark
