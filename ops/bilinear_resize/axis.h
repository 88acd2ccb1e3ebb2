// Where an axis is read when it is resized: exact, in integers, so that every kernel has the same
// weights, also far from the origin.
#pragma once
#include <cstdint>

namespace sg {

// The integers below stay within 31 bits.
constexpr int64_t kMaxResizeSide = 32767;

struct BilinearAxis {
  unsigned in, out;

  // Output position i reads at(i) with the weight 1 - t and next(at(i)) with t(i, at(i)).
  constexpr unsigned at(unsigned i) const { return unsigned(from(i)) / (2 * out); }
  constexpr unsigned next(unsigned at) const { return at + 1 < in ? at + 1 : at; }
  template <class T>
  constexpr T t(unsigned i, unsigned at) const {
    return T(from(i) - int64_t{at} * 2 * out) / T(2 * out);
  }

  // [first(r), first(r + 1)) are the output positions whose `at` is r, for r from 0 to `in`.
  constexpr unsigned first(unsigned r) const {
    if (r == 0) return 0;
    const unsigned twice = (out * (2 * r + 1) + in - 1) / in;  // 2 i + 1 is at least this
    return twice / 2 < out ? twice / 2 : out;
  }

 private:
  // max(0, (i + 0.5) in / out - 0.5), in parts of 1 / (2 out).
  constexpr int from(unsigned i) const {
    const int place = int((2 * i + 1) * in - out);
    return place > 0 ? place : 0;
  }
};

}  // namespace sg
