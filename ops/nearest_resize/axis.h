// Where an axis is read when it is resized to the nearest position.
#pragma once
#include <algorithm>
#include <cstdint>

namespace sg {

struct NearestAxis {
  NearestAxis(int64_t in, int64_t out)
      : in(in), out(out), scale(float(in) / float(out)), inverse(float(out) / float(in)) {}
  int64_t in, out;
  float scale, inverse;

  // The input position of an output position.
  constexpr int64_t at(int64_t i) const { return std::min(int64_t(float(i) * scale), in - 1); }
  // [first(r), first(r + 1)) are the output positions of input position r, for r from 0 to `in`.
  constexpr int64_t first(int64_t r) const {
    int64_t i = std::max(int64_t(float(r) * inverse) - 1, int64_t{0});
    while (i < out && at(i) < r) ++i;
    return i;
  }
};

}  // namespace sg
