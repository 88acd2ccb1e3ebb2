// How long one core takes for each operation of RandAugment.
#pragma once
#include <string>
#include <vector>

namespace sg::benchmark {

struct AugmentSpeed {
  std::string name;    // as timm calls it, geometric ones with their filter: "Rotate bicubic"
  double seconds = 0;  // CPU time of one image, median of the repeats
};

// At level 9 of the increasing set, on a `side` x `side` image; and at last the published policy,
// the mean of many draws.
std::vector<AugmentSpeed> benchmark_augment(int side = 224, int repeats = 101);

}  // namespace sg::benchmark
