// Random permutations.
#pragma once
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "core/rng.h"

namespace sg::data {

// One of [0, order.size()).
inline void shuffle(std::vector<uint32_t>& order, Random& random) {
  std::iota(order.begin(), order.end(), 0);
  for (size_t i = order.size(); i-- > 1;)
    std::swap(order[i], order[size_t(random.integer(0, int64_t(i)))]);
}

}  // namespace sg::data
