// A reducer that sends nothing, and checks that what it is handed was complete.
#pragma once
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>

#include "nn/gradient_slices.h"

namespace sg::test {

struct Recorder : nn::Reducer {
  explicit Recorder(const nn::ParameterStore& parameters) : parameters(parameters) {}
  void reduce(size_t index, Tensor& slice) override {
    CHECK(index == slices.size());
    const int64_t begin = slice.data<float>() - parameters.grads().data<float>();
    CHECK(begin >= (index ? begins.back() + slices.back().numel() : 0));  // in order
    slices.push_back(slice.clone()), begins.push_back(begin);
    before.push_back(parameters.grads().clone());
  }
  void join() override { ++joins; }
  // After a backward: all slices came, joined once, and none has been written to since.
  void check_step(size_t expected) {
    CHECK(slices.size() == expected);
    CHECK(joins == 1);
    for (const nn::Parameter* p : parameters.in_order()) {
      const auto next = std::ranges::upper_bound(begins, p->offset);
      REQUIRE(next != begins.begin());
      const auto i = size_t(next - begins.begin()) - 1;
      CHECK(p->offset + p->shape.numel() <= begins[i] + slices[i].numel());
    }
    const size_t bytes = parameters.grads().bytes();
    for (size_t i = 0; i < slices.size(); ++i) {
      const float* const now = parameters.grads().data<float>() + begins[i];
      CHECK(std::memcmp(now, slices[i].raw(), slices[i].bytes()) == 0);
      most_unfinished += std::memcmp(parameters.grads().raw(), before[i].raw(), bytes) != 0;
    }
    slices.clear(), before.clear(), begins.clear();
    joins = 0;
  }

  const nn::ParameterStore& parameters;
  std::vector<Tensor> slices, before;  // as they were handed over; and the whole buffer then
  std::vector<int64_t> begins;         // of the slices, in the buffer
  int joins = 0, most_unfinished = 0;  // slices that left before the last gradient was written
};

}  // namespace sg::test
