// The toy of toy.h on the device cuda.
#pragma once
#include "tests/support/skip.h"
#include "tests/train/toy.h"

namespace sg::test {

// Its batch is copied to the same tensors at each step.
struct CudaToy : Toy {
  explicit CudaToy(Dtype dtype = Dtype::f32) : Toy(dtype, kCuda) {}
  Tensor device_inputs = empty({4, kFeatures}, store.dtype(), kCuda);
  Tensor device_targets = empty({4, kClasses}, Dtype::f32, kCuda);
  tasks::Batch load_batch(const tasks::BatchPosition& position) override {
    tasks::Batch batch = Toy::load_batch(position);
    device_inputs.copy_(batch.images), device_targets.copy_(batch.targets[0]);
    batch.images = device_inputs, batch.targets = {device_targets};
    return batch;
  }
};

}  // namespace sg::test
