// Counter-based random numbers (Philox 4x32-10): every value is a function of
// (seed, purpose, a, b, position), whatever the number of threads or ranks.
#pragma once
#include <array>
#include <cstdint>

namespace sg {

// What is drawn, and where. The values are part of a run's bits: add new ones at the end.
enum class Purpose : uint32_t {
  init = 1,  // nn/parameters.cpp
  order,     // permutation of an epoch: data/loader.cpp; images held out: data/dataset.cpp
  crop,      // data/transforms.cpp, as flip and interpolation
  flip,
  interpolation,
  replacement,    // the sample that stands in for a broken one: data/loader.cpp
  drop_path,      // ops/drop_path/drop_path.cpp
  test,           // inputs of gradient checks and benchmarks
  erasing,        // noise in an erased box: ops/normalize_images/, key from draw_mix_erase.cpp
  vertical_flip,  // data/transforms.cpp, as augment and color_jitter
  augment,        // RandAugment
  color_jitter,
  mix,  // mixup and CutMix: ops/normalize_images/draw_mix_erase.cpp, as erased_box
  erased_box,
  dropout,     // ops/dropout2d/dropout2d.cpp
  rpn_sample,  // anchors that the losses take: sgformer/detect/targets.cpp, as roi_sample
  roi_sample,
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
