// The sampler: how many boxes, which ones how often, and that it depends on its stream alone.
#include "sgformer/detect/sampler.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

using namespace sg;
using sgformer::sample, sgformer::Sample;

namespace {

// So many of each sort, in turn while there are any.
std::vector<int32_t> assigned(int positives, int negatives, int ignored) {
  std::vector<int32_t> result;
  for (int i = 0; positives + negatives + ignored > 0; ++i) {
    int* const counts[] = {&positives, &negatives, &ignored};
    int* const left = counts[i % 3];
    if (*left == 0) continue;
    --*left;
    result.push_back(i % 3 == 0 ? 1 + i % 5 : i % 3 == 1 ? 0 : -1);
  }
  return result;
}

Sample draw(const std::vector<int32_t>& boxes, sgformer::SamplerSettings settings, uint64_t step) {
  return sample(boxes, settings, Random(1, Purpose::test, step, 2));
}

}  // namespace

TEST_CASE("the sampler: numbers of boxes") {
  struct Case {
    int positives, negatives;
    size_t expected_positives, expected_negatives;
  };
  for (const Case& c : {Case{300, 900, 128, 128},
                        {300, 50, 128, 50},
                        {5, 900, 5, 251},
                        {0, 900, 0, 256},
                        {128, 128, 128, 128},
                        {3, 0, 3, 0},
                        {0, 0, 0, 0}}) {
    CAPTURE(c.positives);
    CAPTURE(c.negatives);
    const auto boxes = assigned(c.positives, c.negatives, 77);
    const Sample s = draw(boxes, sgformer::kRpnSampler, 0);
    CHECK(s.positive.size() == c.expected_positives);
    CHECK(s.negative.size() == c.expected_negatives);
    const auto all = [&](const std::vector<int32_t>& chosen, auto condition) {
      CHECK(std::ranges::is_sorted(chosen));
      CHECK(std::ranges::adjacent_find(chosen) == chosen.end());  // none twice
      for (const int32_t i : chosen) CHECK(condition(boxes.at(size_t(i))));
    };
    all(s.positive, [](int32_t a) { return a > 0; });
    all(s.negative, [](int32_t a) { return a == 0; });
  }
  CHECK(draw(assigned(300, 900, 0), sgformer::kRoiSampler, 0).negative.size() == 384);
}

TEST_CASE("the sampler: each box, and each pair of boxes, is as likely as another") {
  const int n = 12, most = 5, rounds = 40000;
  const auto boxes = assigned(n, n, 3);
  std::vector<double> single(boxes.size()), pair(boxes.size() * boxes.size());
  for (int round = 0; round < rounds; ++round) {
    const Sample s = draw(boxes, {.number = 2 * most, .positives = most}, uint64_t(round));
    for (const auto* chosen : {&s.positive, &s.negative})
      for (const int32_t i : *chosen) {
        ++single[size_t(i)];
        for (const int32_t j : *chosen) ++pair[size_t(i) * boxes.size() + size_t(j)];
      }
  }
  // Within five deviations of a binomial; of 24 + 132 rates none is further off by chance.
  const auto near = [&](double count, double p) {
    return std::abs(count - rounds * p) < 5 * std::sqrt(rounds * p * (1 - p));
  };
  for (size_t i = 0; i < boxes.size(); ++i) {
    if (boxes[i] < 0) continue;
    CHECK(near(single[i], double(most) / n));
    for (size_t j = 0; j < i; ++j)
      if (boxes[j] >= 0 && (boxes[i] > 0) == (boxes[j] > 0))
        CHECK(near(pair[i * boxes.size() + j], double(most) * (most - 1) / (n * (n - 1))));
  }
}

TEST_CASE("the sampler: the same stream, the same boxes; another, others") {
  const auto boxes = assigned(500, 5000, 0);
  const Sample a = draw(boxes, sgformer::kRpnSampler, 7), b = draw(boxes, sgformer::kRpnSampler, 7);
  const Sample other = draw(boxes, sgformer::kRpnSampler, 8);
  CHECK(a.positive == b.positive);
  CHECK(a.negative == b.negative);
  CHECK(a.positive != other.positive);
  CHECK(a.negative != other.negative);
}
