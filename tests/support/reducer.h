// A reducer that sends nothing, and checks that what it is handed was complete.
#pragma once
#include <doctest/doctest.h>

#include <cstring>

#include "nn/gradient_slices.h"

namespace sg::test {

struct Recorder : nn::Reducer {
  explicit Recorder(const nn::ParameterStore& parameters) : parameters(parameters) {}
  void reduce(size_t index, Tensor& slice) override {
    CHECK(index == slices.size());
    CHECK(slice.data<float>() ==
          parameters.grads().data<float>() + int64_t(sent));  // contiguous, in order
    slices.push_back(slice.clone()), sent += size_t(slice.numel());
    before.push_back(parameters.grads().clone());
  }
  void join() override { ++joins; }
  // After a backward: all slices came, joined once, and none has been written to since.
  void check_step(size_t expected) {
    CHECK(slices.size() == expected);
    CHECK(sent == size_t(parameters.grads().numel()));
    CHECK(joins == 1);
    const size_t bytes = parameters.grads().bytes();
    size_t at = 0;
    for (size_t i = 0; i < slices.size(); ++i) {
      const auto* now = static_cast<const std::byte*>(parameters.grads().raw()) + at;
      CHECK(std::memcmp(now, slices[i].raw(), slices[i].bytes()) == 0);
      at += slices[i].bytes();
      most_unfinished += std::memcmp(parameters.grads().raw(), before[i].raw(), bytes) != 0;
    }
    slices.clear(), before.clear();
    sent = 0, joins = 0;
  }

  const nn::ParameterStore& parameters;
  std::vector<Tensor> slices, before;  // as they were handed over; and the whole buffer then
  size_t sent = 0;
  int joins = 0, most_unfinished = 0;  // slices that left before the last gradient was written
};

}  // namespace sg::test
