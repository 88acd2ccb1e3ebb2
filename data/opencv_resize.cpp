#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "data/opencv_resize.cpp"
#include <hwy/foreach_target.h>
// Highway's own rule: after foreach_target.
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/error.h"
#include "data/opencv_resize.h"

HWY_BEFORE_NAMESPACE();
namespace sg::data {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// ((a wa >> 16) + (b wb >> 16) + 2) >> 2 of each of `count` values.
void blend_two_rows(const int16_t* a, const int16_t* b, int16_t wa, int16_t wb, size_t count,
                    uint8_t* out) {
  const hn::ScalableTag<int16_t> d;
  const hn::Rebind<uint8_t, decltype(d)> bytes;
  const auto blended = [&](size_t j) {
    const auto sum = hn::Add(hn::MulHigh(hn::LoadU(d, a + j), hn::Set(d, wa)),
                             hn::MulHigh(hn::LoadU(d, b + j), hn::Set(d, wb)));
    return hn::DemoteTo(bytes, hn::ShiftRight<2>(hn::Add(sum, hn::Set(d, 2))));
  };
  size_t j = 0;
  for (; j + hn::Lanes(d) <= count; j += hn::Lanes(d)) hn::StoreU(blended(j), bytes, out + j);
  for (; j < count; ++j) out[j] = uint8_t(((a[j] * wa >> 16) + (b[j] * wb >> 16) + 2) >> 2);
}

}  // namespace HWY_NAMESPACE
}  // namespace sg::data
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sg::data {
namespace {

HWY_EXPORT(blend_two_rows);

constexpr int kOne = 2048;  // weights are fractions of it

bool is_halving(ImageSize source, ImageSize to) {
  return source.height == 2 * to.height && source.width == 2 * to.width;
}

// The step in the source for one in the result, rounded as OpenCV does it.
double step(int source, int to) { return 1.0 / (double(to) / double(source)); }

// The first of the two source positions, and how far behind it output i lies.
struct Place {
  int first;
  float fraction;
};
Place place_of(int source, int to, int i) {
  const auto f = float((i + 0.5) * step(source, to) - 0.5);
  const float first = std::floor(f);
  return {int(first), f - first};
}

// Each pixel the rounded mean of four.
void halve(const ImageView& part, const Box& where, const Box& window, int channels, uint8_t* out) {
  for (int y = 0; y < window.height; ++y) {
    const uint8_t* a =
        part.row(2 * (window.top + y) - where.top) + (2 * window.left - where.left) * channels;
    const uint8_t* b = a + part.stride;
    for (int x = 0; x < window.width; ++x, a += 2 * channels, b += 2 * channels)
      for (int c = 0; c < channels; ++c)
        *out++ = uint8_t((a[c] + a[c + channels] + b[c] + b[c + channels] + 2) >> 2);
  }
}

template <int kChannels>
void narrow_row(const uint8_t* row, const int* first, const int* second, const int16_t* wa,
                const int16_t* wb, int width, int16_t* out) {
  for (int x = 0; x < width; ++x, out += kChannels) {
    const uint8_t* a = row + first[x];
    const uint8_t* b = row + second[x];
    for (int c = 0; c < kChannels; ++c) out[c] = int16_t((a[c] * wa[x] + b[c] * wb[x]) >> 4);
  }
}

// From the first to behind the last source position of outputs [begin, begin + count).
std::pair<int, int> range_of(int source, int to, int begin, int count) {
  return {std::clamp(place_of(source, to, begin).first, 0, source - 1),
          std::clamp(place_of(source, to, begin + count - 1).first + 1, 0, source - 1) + 1};
}

}  // namespace

Box BilinearResizer::source_box(ImageSize source, ImageSize to, const Box& w) {
  if (is_halving(source, to)) return {2 * w.left, 2 * w.top, 2 * w.width, 2 * w.height};
  const auto [left, right] = range_of(source.width, to.width, w.left, w.width);
  const auto [top, bottom] = range_of(source.height, to.height, w.top, w.height);
  return {left, top, right - left, bottom - top};
}

// clamped: the fraction becomes 0 beyond the source's ends, as it does across but not down.
BilinearResizer::Taps BilinearResizer::taps(int source, int to, int begin, int count,
                                            bool clamped) {
  Taps taps;
  for (int i = begin; i < begin + count; ++i) {
    auto [first, fraction] = place_of(source, to, i);
    if (clamped && first < 0) first = 0, fraction = 0;
    if (clamped && first >= source - 1) first = source - 1, fraction = 0;
    taps.first.push_back(std::clamp(first, 0, source - 1));
    taps.second.push_back(std::clamp(first + 1, 0, source - 1));
    // Half to even, the mode that C++ starts in.
    taps.first_weight.push_back(int16_t(std::nearbyint((1.f - fraction) * kOne)));
    taps.second_weight.push_back(int16_t(std::nearbyint(fraction * kOne)));
  }
  return taps;
}

// Row y of the source, at `row`, resized to the window's width; `kept` is a row that must stay.
const int16_t* BilinearResizer::narrowed(const uint8_t* row, int y, int channels, int kept) {
  for (int i : {0, 1})
    if (narrowed_row_[i] == y) return narrowed_[i].data();
  const int i = narrowed_row_[0] == kept ? 1 : 0;
  narrowed_row_[i] = y;
  const auto width = int(columns_.first.size());
  narrowed_[i].resize(size_t(width) * size_t(channels));
  (channels == 1 ? narrow_row<1>
                 : narrow_row<3>)(row, columns_.first.data(), columns_.second.data(),
                                  columns_.first_weight.data(), columns_.second_weight.data(),
                                  width, narrowed_[i].data());
  return narrowed_[i].data();
}

void BilinearResizer::operator()(const ImageView& part, const Box& where, ImageSize source,
                                 ImageSize to, const Box& window, int channels, uint8_t* out) {
  check(channels == 1 || channels == 3, "resize: expected 1 or 3 channels, found {}", channels);
  if (is_halving(source, to)) return halve(part, where, window, channels, out);
  columns_ = taps(source.width, to.width, window.left, window.width, true);
  for (std::vector<int>* positions : {&columns_.first, &columns_.second})
    for (int& p : *positions) p = (p - where.left) * channels;
  const Taps rows = taps(source.height, to.height, window.top, window.height, false);
  narrowed_row_[0] = narrowed_row_[1] = -1;
  const size_t row_bytes = size_t(window.width) * size_t(channels);
  for (size_t y = 0; y < rows.first.size(); ++y, out += row_bytes) {
    const int a = rows.first[y], b = rows.second[y];
    const int16_t* first = narrowed(part.row(a - where.top), a, channels, b);
    const int16_t* second = narrowed(part.row(b - where.top), b, channels, a);
    HWY_DYNAMIC_DISPATCH(blend_two_rows)
    (first, second, rows.first_weight[y], rows.second_weight[y], row_bytes, out);
  }
}

void BilinearResizer::operator()(const ImageView& source, ImageSize to, int channels,
                                 uint8_t* out) {
  (*this)(source, {0, 0, source.width, source.height}, {source.height, source.width}, to,
          {0, 0, to.width, to.height}, channels, out);
}

void nearest_positions(int source, int to, int begin, int count, std::vector<int>& positions) {
  positions.resize(size_t(count));
  const double s = step(source, to);
  for (int i = 0; i < count; ++i)
    positions[size_t(i)] = std::min(int(std::floor((begin + i) * s)), source - 1);
}

void gather_pixels(const ImageView& source, std::span<const int> rows, std::span<const int> columns,
                   int channels, uint8_t* out) {
  for (const int y : rows) {
    const uint8_t* row = source.row(y);
    if (channels == 1)
      for (const int x : columns) *out++ = row[x];
    else
      for (const int x : columns) {
        std::memcpy(out, row + size_t(x) * size_t(channels), size_t(channels));
        out += channels;
      }
  }
}

}  // namespace sg::data
#endif  // HWY_ONCE
