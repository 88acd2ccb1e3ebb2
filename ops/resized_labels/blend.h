// Two bilinear resizings of an axis, one after the other, as one: where an output position reads
// the axis that is resized first, and with which weights.
#pragma once
#include "ops/bilinear_resize/axis.h"

namespace sg {

template <class T>
struct Blend {
  int at[4];
  T weight[4];  // 0 where a position occurs a second time

  // Output position i of `second`, which resizes what `first` made.
  constexpr Blend(const BilinearAxis& first, const BilinearAxis& second, unsigned i)
      : at{}, weight{} {
    const unsigned near = second.at(i), far = second.next(near);
    const T t = second.t<T>(i, near);
    read(0, first, near, 1 - t), read(2, first, far, t);
    for (int k = 1; k < 4; ++k)
      for (int j = 0; j < k; ++j)
        if (at[j] == at[k]) weight[j] += weight[k], weight[k] = 0;
  }

 private:
  constexpr void read(int k, const BilinearAxis& axis, unsigned i, T share) {
    const unsigned place = axis.at(i);
    const T t = axis.t<T>(i, place);
    at[k] = int(place), at[k + 1] = int(axis.next(place));
    weight[k] = share * (1 - t), weight[k + 1] = share * t;
  }
};

}  // namespace sg
