// Random boxes for tests of detection.
#pragma once
#include <vector>

#include "core/rng.h"
#include "sgformer/detect/box.h"

namespace sg::test {

// Corners on a grid of 1 / 4 in [0, side]: exact in every type, and few enough that IoUs tie.
template <class T>
std::vector<sgformer::Box<T>> tied_boxes(int64_t n, int64_t side, Random& random) {
  std::vector<sgformer::Box<T>> boxes;
  const auto at_least = [&](T low) { return T(random.integer(int64_t(low * 4), side * 4)) / 4; };
  for (int64_t i = 0; i < n; ++i) {
    const T x = at_least(0), y = at_least(0);
    boxes.push_back({x, y, at_least(x), at_least(y)});
  }
  return boxes;
}

// Corners anywhere.
template <class T>
std::vector<sgformer::Box<T>> any_boxes(int64_t n, double side, Random& random) {
  std::vector<sgformer::Box<T>> boxes;
  for (int64_t i = 0; i < n; ++i) {
    const double x = random.uniform(0, side), y = random.uniform(0, side);
    boxes.push_back({T(x), T(y), T(random.uniform(x, side)), T(random.uniform(y, side))});
  }
  return boxes;
}

}  // namespace sg::test
