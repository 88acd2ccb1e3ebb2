// The bars of bars.h as a dataset in memory.
#pragma once
#include <fmt/format.h>

#include "data/dataset.h"
#include "tests/support/bars.h"

namespace sg::test {

class Bars : public data::Dataset {
 public:
  explicit Bars(int64_t size) : size_(size), pixels_(bars(size)) {
    for (int c = 0; c < kBarClasses; ++c) class_names_.push_back(fmt::format("bar {}", c));
  }
  int64_t size() const override { return size_; }
  int label(int64_t i) const override { return int(i % kBarClasses); }
  std::string name(int64_t i) const override { return fmt::format("bar {}", i); }
  std::unique_ptr<data::Source> open(int64_t i, std::vector<uint8_t>&) const override {
    return data::open_pixels(pixels_.data() + i * kBarPixels, kBarSide, kBarSide, 1);
  }

 private:
  int64_t size_;
  std::vector<uint8_t> pixels_;
};

}  // namespace sg::test
