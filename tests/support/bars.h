// Small images that a network can learn: noise with a bright bar whose height is the class.
#pragma once
#include <cstdint>
#include <vector>

#include "core/rng.h"

namespace sg::test {

constexpr int kBarSide = 28, kBarPixels = kBarSide * kBarSide, kBarClasses = 4;

// Grey pixels of image i of class i % kBarClasses, one image after the other.
inline std::vector<uint8_t> bars(int64_t count, uint64_t seed = 1) {
  std::vector<uint8_t> pixels(size_t(count) * kBarPixels);
  for (int64_t i = 0; i < count; ++i) {
    Random random(seed, Purpose::test, uint64_t(i));
    for (int p = 0; p < kBarPixels; ++p) {
      const bool bar = p / kBarSide / (kBarSide / kBarClasses) == i % kBarClasses;
      pixels[size_t(i * kBarPixels + p)] = uint8_t(random.integer(0, 120) + (bar ? 100 : 0));
    }
  }
  return pixels;
}

}  // namespace sg::test
