// Slices of a gradient go to a communicator, as in a run of several processes.
#pragma once
#include "dist/communicator.h"
#include "nn/gradient_slices.h"

namespace sg::test {

struct SliceSender : nn::Reducer {
  explicit SliceSender(dist::Communicator& to, dist::Wire wire = dist::Wire::f32)
      : to(to), wire(wire) {}
  void reduce(size_t index, Tensor& slice) override {
    to.start_all_reduce(fmt::format("slice {}", index + 1), slice, wire);
  }
  void join() override { to.join(); }

  dist::Communicator& to;
  dist::Wire wire;
};

}  // namespace sg::test
