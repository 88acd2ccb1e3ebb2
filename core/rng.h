// Counter-based random numbers (Philox 4x32-10): every value is a function of
// (seed, purpose, a, b, position), whatever the number of threads or ranks.
#pragma once
#include <array>
#include <cstdint>

namespace sg {

enum class Purpose : uint32_t {
  init = 1,
  order,  // permutation of an epoch
  crop,
  flip,
  interpolation,
  replacement,  // the sample that stands in for a broken one
  drop_path,
  test,
  erasing,  // the noise in an erased box
  vertical_flip,
  augment,  // RandAugment
  color_jitter,
  mix,  // mixup and CutMix
  erased_box,
};

// A stream of random numbers by name: kernels draw from it at any position.
struct RandomStream {
  uint32_t key[2], counter[3];
};
// Words 4 i to 4 i + 3 of the stream.
std::array<uint32_t, 4> random_words(const RandomStream& stream, uint32_t i);

class Random {
 public:
  // a and b say which stream within the purpose, e.g. (epoch, sample) or (step, layer).
  Random(uint64_t seed, Purpose purpose, uint64_t a = 0, uint64_t b = 0);

  uint32_t u32();
  double uniform();  // [0, 1), 53 bits
  double uniform(double low, double high);
  int64_t integer(int64_t low, int64_t high);  // low and high inclusive, unbiased
  bool bernoulli(double p) { return uniform() < p; }
  double normal();  // N(0, 1), Box-Muller
  const RandomStream& stream() const { return stream_; }

 private:
  RandomStream stream_;
  uint32_t position_ = 0;
  std::array<uint32_t, 4> block_{};
  int used_ = 4;
};

}  // namespace sg
