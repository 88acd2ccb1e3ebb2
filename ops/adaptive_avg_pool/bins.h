// The positions of an axis that a bin covers.
#pragma once
#include <cstdint>

namespace sg {

struct Bin {
  int begin, end;
  constexpr int size() const { return end - begin; }
};

// Bin i of `count` over `length` positions. The bins that cover position r are, with the same
// formula, positions_of(r, length, count).
constexpr Bin positions_of(int i, int count, int length) {
  return {int(int64_t{i} * length / count), int((int64_t{i + 1} * length + count - 1) / count)};
}

}  // namespace sg
