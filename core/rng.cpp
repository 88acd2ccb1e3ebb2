#include "core/rng.h"

#include <Random123/philox.h>

#include <cmath>
#include <numbers>

#include "core/error.h"

namespace sg {

std::array<uint32_t, 4> random_words(const RandomStream& s, uint32_t i) {
  const r123::Philox4x32::ctr_type c{{i, s.counter[0], s.counter[1], s.counter[2]}};
  const auto r = r123::Philox4x32()(c, {{s.key[0], s.key[1]}});
  return {r[0], r[1], r[2], r[3]};
}

// Counter words: [block position, purpose and high bits of a, low bits of a, b]. b is folded to 32
// bits, which any index of a sample, layer or parameter fits.
Random::Random(uint64_t seed, Purpose purpose, uint64_t a, uint64_t b)
    : stream_{{uint32_t(seed), uint32_t(seed >> 32)},
              {uint32_t(purpose) | uint32_t(a >> 32) << 8, uint32_t(a), uint32_t(b)}} {
  check(a >> 56 == 0 && b >> 32 == 0, "random: stream ({}, {}) is out of range", a, b);
}

uint32_t Random::u32() {
  if (used_ == 4) {
    block_ = random_words(stream_, position_++);
    used_ = 0;
  }
  return block_[used_++];
}

double Random::uniform() {
  const uint64_t high = u32() >> 5, low = u32() >> 6;
  return double(high << 26 | low) * 0x1p-53;
}

double Random::uniform(double low, double high) { return low + (high - low) * uniform(); }

int64_t Random::integer(int64_t low, int64_t high) {
  check(low <= high, "random: empty range [{}, {}]", low, high);
  const uint64_t range = uint64_t(high) - uint64_t(low) + 1;
  const auto u64 = [&] {
    const uint64_t h = u32();
    return h << 32 | u32();
  };
  if (range == 0) return int64_t(u64());
  // Reject the tail that would make small values likelier.
  const uint64_t limit = UINT64_MAX - UINT64_MAX % range;
  uint64_t v;
  do v = u64();
  while (v >= limit);
  return int64_t(uint64_t(low) + v % range);
}

double Random::normal() {
  const double u = 1.0 - uniform(), v = uniform();  // u in (0, 1]
  return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v);
}

}  // namespace sg
