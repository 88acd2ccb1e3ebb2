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
  double stage(int64_t step, int64_t first) override {
    Toy::stage(step, first);
    device_inputs.copy_(inputs), device_targets.copy_(targets);
    return 0;
  }
  Tensor loss() override { return soft_cross_entropy(linear(device_inputs), device_targets).loss; }
};

}  // namespace sg::test
