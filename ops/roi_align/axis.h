// Where RoIAlign reads one axis of a map. A sample reads two pixels of each axis, and its weights
// are products of those of the axes: so are the sums of weights over the samples of a bin.
#pragma once
#include <cstdint>

namespace sg {

constexpr int kMaxRoiBins = 64;
constexpr int64_t kMaxRoiPixels = 1 << 16;  // of a map, along an axis; places of RoIs are as far

template <class T>
struct RoiAxis {
  T start, bin;  // the first bin's begin, and the size of a bin; pixel i has its centre at i
  int grid;      // samples of a bin
  int size;      // pixels of the map

  // Pixel `at` has the weight 1 - t, pixel `next` t. Outside of the map a sample reads nothing.
  struct Sample {
    bool inside;
    int at, next;
    T t;
  };
  constexpr Sample sample(int b, int i) const {
    T p = start + T(b) * bin + (T(i) + T(0.5)) * bin / T(grid);
    if (p < -1 || p > T(size)) return {};
    if (p < 0) p = 0;
    const int at = int(p);
    if (at + 1 >= size) return {true, size - 1, size - 1, 0};
    return {true, at, at + 1, p - T(at)};
  }
};

// Of a box that goes from `low` to `high` in the image, on a map of `size` pixels that is `scale`
// times as large as the image.
template <class T>
constexpr RoiAxis<T> roi_axis(T low, T high, T scale, int bins, int64_t size) {
  const T start = low * scale - T(0.5), bin = (high * scale - T(0.5) - start) / T(bins);
  const int whole = int(bin);
  return {start, bin, whole + (T(whole) < bin), int(size)};
}

// False where a place is not a number, or too far out for the integers above.
template <class T>
constexpr bool valid_roi_place(T place, T scale) {
  return place * scale >= -T(kMaxRoiPixels) && place * scale <= T(kMaxRoiPixels);
}

}  // namespace sg
