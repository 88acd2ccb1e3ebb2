#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

namespace sg::benchmark {

// Of at least one value; of an even number of them the upper one in the middle.
inline double median(std::vector<double> values) {
  const auto middle = values.begin() + int64_t(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace sg::benchmark
