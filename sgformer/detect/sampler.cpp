#include "sgformer/detect/sampler.h"

#include <algorithm>

namespace sg::sgformer {
namespace {

// Keeps `number` of the indices, which are ascending before and after.
void keep_some(std::vector<int32_t>& indices, int64_t number, Random& random) {
  const auto n = int64_t(indices.size());
  if (number >= n) return;
  for (int64_t i = 0; i < number; ++i)
    std::swap(indices[size_t(i)], indices[size_t(random.integer(i, n - 1))]);
  indices.resize(size_t(number));
  std::sort(indices.begin(), indices.end());
}

}  // namespace

Sample sample(std::span<const int32_t> assigned, const SamplerSettings& settings, Random random) {
  Sample result;
  for (size_t i = 0; i < assigned.size(); ++i) {
    if (assigned[i] > 0) result.positive.push_back(int32_t(i));
    if (assigned[i] == 0) result.negative.push_back(int32_t(i));
  }
  keep_some(result.positive, settings.positives, random);
  keep_some(result.negative, settings.number - int64_t(result.positive.size()), random);
  return result;
}

}  // namespace sg::sgformer
