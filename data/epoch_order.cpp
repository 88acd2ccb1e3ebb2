#include "data/epoch_order.h"

#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "data/shuffle.h"

namespace sg::data {

EpochOrder::EpochOrder(const ImageSet& images, const EpochOrderConfig& config)
    : config_(config), size_(images.size()), shard_ends_(images.shard_ends()) {
  check(size_ < int64_t{UINT32_MAX}, "a dataset of {} samples is too large", size_);
  check(shard_ends_.empty() || shard_ends_.back() == size_,
        "the shards of a dataset of {} samples end at {}", size_,
        shard_ends_.empty() ? 0 : shard_ends_.back());
}

int64_t EpochOrder::positions() const {
  const bool rounded = config_.shuffled && config_.aug_repeats > 0;
  return rounded ? size_ / kSelectedRound * kSelectedRound : size_;
}

void EpochOrder::start(int64_t epoch) {
  if (!config_.shuffled) return;
  order_.resize(size_t(size_));
  Random random(config_.seed, Purpose::order, uint64_t(epoch));
  if (shard_ends_.empty())
    shuffle(order_, random);
  else
    shuffle_shards(random);
}

void EpochOrder::shuffle_shards(Random& random) {
  shards_.resize(shard_ends_.size());
  shuffle(shards_, random);
  read_ends_.clear();
  auto to = order_.begin();
  for (const uint32_t shard : shards_) {
    const int64_t begin = shard ? shard_ends_[shard - 1] : 0;
    const auto end = to + (shard_ends_[shard] - begin);
    std::iota(to, end, uint32_t(begin));
    to = end;
    read_ends_.push_back(to - order_.begin());
  }
  // What lies from i on, kShuffleBuffer samples, is the buffer.
  for (int64_t i = 0; i < size_; ++i)
    std::swap(order_[size_t(i)],
              order_[size_t(random.integer(i, std::min(i + kShuffleBuffer, size_) - 1))]);
}

EpochOrder::Item EpochOrder::at(int64_t i) const {
  if (!config_.shuffled) return {i, 0};
  const int64_t repeats = std::max(config_.aug_repeats, 1);
  return {order_[size_t(i / repeats)], i % repeats};
}

int64_t EpochOrder::entering(int64_t i) const {
  const int64_t repeats = std::max(config_.aug_repeats, 1);
  const int64_t read = i / repeats + kShuffleBuffer;
  if (!config_.shuffled || read_ends_.empty() || i % repeats != 0 || read >= size_) return -1;
  const auto shard = std::ranges::upper_bound(read_ends_, read) - read_ends_.begin();
  return shard_ends_[shards_[size_t(shard)]] - (read_ends_[size_t(shard)] - read);
}

}  // namespace sg::data
