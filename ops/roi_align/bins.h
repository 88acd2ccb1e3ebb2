// The pixels that each bin of a RoI reads along an axis, and the weights of each; for CPUs and, as
// constexpr functions, for GPUs.
#pragma once
#include <utility>

#include "ops/roi_align/axis.h"

namespace sg {

// Pixels [begin, end), none where no sample is inside of the map.
template <class T>
struct RoiBin {
  int begin, end;
  const T* weights;  // sums over the samples of the bin
  constexpr bool reads(int pixel) const { return begin <= pixel && pixel < end; }
  constexpr T weight(int pixel) const { return weights[pixel - begin]; }
};

// The most weights that the bins of a RoI have: neighbouring bins share two pixels at most.
constexpr int64_t roi_weights(int64_t bins, int64_t size) { return size + 2 * bins; }

// Writes the bins, and their weights to memory for roi_weights().
template <class T>
constexpr void make_roi_bins(const RoiAxis<T>& axis, int bins, RoiBin<T>* to, T* weights) {
  for (int b = 0; b < bins; ++b) {
    RoiBin<T>& bin = to[b] = {0, 0, weights};
    for (int i = 0; i < axis.grid; ++i) {
      const auto s = axis.sample(b, i);
      if (!s.inside) continue;
      if (bin.begin == bin.end) bin.begin = bin.end = s.at;
      for (; bin.end <= s.next; ++bin.end) *weights++ = 0;
      T* const w = weights - bin.end;
      w[s.at] += 1 - s.t, w[s.next] += s.t;
    }
  }
}

// The pixels that bins of one axis read, from the first to the last.
template <class T>
constexpr std::pair<int, int> roi_span(const RoiBin<T>* bins, int64_t count) {
  std::pair<int, int> span{0, 0};
  for (int64_t i = 0; i < count; ++i) {
    if (bins[i].begin == bins[i].end) continue;
    if (span.first == span.second) span.first = bins[i].begin;
    span.second = bins[i].end;
  }
  return span;
}

}  // namespace sg
