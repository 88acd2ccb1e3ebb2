// The order of samples in an epoch, which all ranks share (data/loader.h).
#pragma once
#include <cstdint>
#include <vector>

#include "core/rng.h"
#include "data/image_set.h"

namespace sg::data {

// Samples that wait in the shuffle buffer of shards, as timm has it.
constexpr int64_t kShuffleBuffer = 8192;

struct EpochOrderConfig {
  bool shuffled = true;  // else the order of the dataset, each sample once
  uint64_t seed = 42;
  // Shuffled: copies of each sample in a row, as timm's RepeatAugSampler. An epoch is then as many
  // positions as the dataset has samples, rounded down to a multiple of kSelectedRound, so it sees
  // a part of the samples. 0: no repeats, all samples.
  int aug_repeats = 0;
};
constexpr int64_t kSelectedRound = 256;  // selected_round of timm's RepeatAugSampler

// Shuffled, it is a permutation drawn by (seed, epoch) alone. Of shards, so that each is read once
// and from its begin to its end: the shards in random order, one after the other, through a buffer
// of kShuffleBuffer samples, of which a random one leaves as the next comes. Samples of one shard
// so stay near each other: shards should hold samples of all classes.
class EpochOrder {
 public:
  EpochOrder(const ImageSet& images, const EpochOrderConfig& config);

  // Of an epoch, for all ranks together.
  int64_t positions() const;

  void start(int64_t epoch);

  struct Item {
    int64_t sample = 0;
    int64_t copy = 0;  // which of the repeats of its sample; 0 where there are none
  };
  // What is at position i; after start().
  Item at(int64_t i) const;
  // The sample that enters the shuffle buffer at position i; -1 where none does. Samples enter in
  // the order in which they lie in the shards.
  int64_t entering(int64_t i) const;

 private:
  void shuffle_shards(Random& random);

  EpochOrderConfig config_;
  int64_t size_;
  std::vector<int64_t> shard_ends_;
  std::vector<uint32_t> order_;     // of the samples
  std::vector<uint32_t> shards_;    // in the order of this epoch
  std::vector<int64_t> read_ends_;  // of the shards in it: samples up to their ends
};

}  // namespace sg::data
