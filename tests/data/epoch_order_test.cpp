#include "data/epoch_order.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "core/error.h"

using namespace sg;
using namespace sg::data;

namespace {

// Samples without images; `ends` as ImageSet::shard_ends().
class Numbers final : public ImageSet {
 public:
  explicit Numbers(int64_t size, std::vector<int64_t> ends = {})
      : size_(size), ends_(std::move(ends)) {}
  int64_t size() const override { return size_; }
  std::string name(int64_t i) const override { return std::to_string(i); }
  std::string identity(int64_t i) const override { return name(i); }
  std::unique_ptr<Source> open(int64_t, std::vector<uint8_t>&) const override { return nullptr; }
  std::vector<int64_t> shard_ends() const override { return ends_; }

 private:
  int64_t size_;
  std::vector<int64_t> ends_;
};

// 200 shards of 150 samples each, but the last of 50.
Numbers shards() {
  std::vector<int64_t> ends;
  for (int64_t end = 150; end <= 199 * 150; end += 150) ends.push_back(end);
  ends.push_back(ends.back() + 50);
  return Numbers(ends.back(), ends);
}

std::vector<int64_t> epoch_of(EpochOrder& order, int64_t epoch) {
  order.start(epoch);
  std::vector<int64_t> samples;
  for (int64_t i = 0; i < order.positions(); ++i) samples.push_back(order.at(i).sample);
  return samples;
}

}  // namespace

TEST_CASE("shards: a permutation by seed and epoch, whatever was started before") {
  const Numbers d = shards();
  EpochOrder order(d, {}), other(d, {.seed = 1});
  const auto first = epoch_of(order, 3);
  auto sorted = first;
  std::ranges::sort(sorted);
  for (size_t i = 0; i < sorted.size(); ++i) REQUIRE(sorted[i] == int64_t(i));
  CHECK(sorted.size() == size_t(d.size()));
  CHECK(epoch_of(order, 4) != first);
  CHECK(epoch_of(order, 3) == first);
  CHECK(epoch_of(other, 3) != first);
  EpochOrder folder(Numbers(d.size()), {});
  CHECK(epoch_of(folder, 3) != first);
}

TEST_CASE("shards: samples enter the buffer in the order in which they lie, and leave it soon") {
  const Numbers d = shards();
  EpochOrder order(d, {});
  order.start(0);
  const int64_t n = d.size();
  std::vector<int64_t> entered;
  for (int64_t i = 0; i < n; ++i)
    if (const int64_t s = order.entering(i); s >= 0) entered.push_back(s);
  REQUIRE(int64_t(entered.size()) == n - kShuffleBuffer);
  // Shard by shard in another order than theirs; within each one after the other.
  int64_t jumps = 0, upwards = 0;
  for (size_t i = 1; i < entered.size(); ++i) {
    if (entered[i] == entered[i - 1] + 1) continue;
    ++jumps, upwards += entered[i] > entered[i - 1];
    CHECK(entered[i] % 150 == 0);
    const bool at_end = entered[i - 1] % 150 == 149 || entered[i - 1] == n - 1;
    CHECK(at_end);
  }
  CHECK(jumps > 100);
  CHECK(upwards > jumps / 4);
  CHECK(upwards < jumps * 3 / 4);
  // No sample leaves before it has entered. Each step takes a given sample of the buffer with a
  // chance of 1 in kShuffleBuffer, so the mean stay is that; of 5000 its standard error is 1.4 %.
  std::vector<int64_t> entered_at(size_t(n), 0);
  for (int64_t i = 0; i < n; ++i)
    if (const int64_t s = order.entering(i); s >= 0) entered_at[size_t(s)] = i + 1;
  double stay = 0;
  int64_t counted = 0;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t at = entered_at[size_t(order.at(i).sample)];
    REQUIRE(at <= i);
    if (at > 0 && at < n - 3 * kShuffleBuffer) stay += double(i - at), ++counted;
  }
  CHECK(counted > 1000);
  CHECK(stay / double(counted) > 0.8 * kShuffleBuffer);
  CHECK(stay / double(counted) < 1.2 * kShuffleBuffer);
}

TEST_CASE("shards: fewer samples than the buffer holds come in any order") {
  // Of each position the mean sample is the middle one: 2000 draws of a uniform number below 300
  // have a standard error of 1.94.
  const Numbers d(300, {100, 200, 300});
  EpochOrder order(d, {});
  std::vector<double> sum(300);
  for (int64_t epoch = 0; epoch < 2000; ++epoch) {
    const auto samples = epoch_of(order, epoch);
    for (size_t i = 0; i < 300; ++i) sum[i] += double(samples[i]);
  }
  for (const double s : sum) CHECK(std::abs(s / 2000 - 149.5) < 5 * 1.94);
}

TEST_CASE("shards: repeats are copies of the begin of an epoch") {
  const Numbers d(1001, {400, 1001});
  EpochOrder order(d, {});
  const auto once = epoch_of(order, 5);
  EpochOrder repeated(d, {.aug_repeats = 3});
  repeated.start(5);
  CHECK(repeated.positions() == 768);
  for (int64_t i = 0; i < 768; ++i) {
    CHECK(repeated.at(i).sample == once[size_t(i / 3)]);
    CHECK(repeated.at(i).copy == i % 3);
  }
}

TEST_CASE("unshuffled, the order is that of the dataset") {
  const Numbers d(29, {10, 29});
  EpochOrder order(d, {.shuffled = false});
  const auto samples = epoch_of(order, 7);
  REQUIRE(samples.size() == 29);
  for (int64_t i = 0; i < 29; ++i) CHECK(samples[size_t(i)] == i);
  CHECK(order.entering(0) == -1);
  CHECK_THROWS_AS(EpochOrder(Numbers(29, {10, 28}), {}), Error);
}
