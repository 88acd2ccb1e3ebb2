#include "data/resize.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/error.h"
#include "data/resize_kernels.h"
#include "data/resize_vnni.h"

namespace sg::data {
namespace {

double weight_at(Filter filter, double x) {
  x = std::abs(x);
  if (filter == Filter::bilinear) return x < 1 ? 1 - x : 0;
  constexpr double a = -0.5;
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

// How a length is resampled. The expressions keep the order of Pillow's, for equal rounding.
struct Axis {
  double scale, stretch, support;
  int64_t in;

  Axis(int64_t in_size, int64_t out_size, Filter filter) : in(in_size) {
    scale = double(in_size) / double(out_size);
    stretch = std::max(scale, 1.0);
    support = (filter == Filter::bilinear ? 1.0 : 2.0) * stretch;
  }
  double center(int64_t i) const { return (double(i) + 0.5) * scale; }
  int64_t begin(int64_t i) const {
    return std::max<int64_t>(int64_t(center(i) - support + 0.5), 0);
  }
  int64_t end(int64_t i) const { return std::min(int64_t(center(i) + support + 0.5), in); }
};

// Taps of the output positions [from, from + n), and up to a multiple of kPixelBlock without
// weight.
void make_taps(const Axis& axis, Filter filter, int64_t from, int n, bool reverse, Taps& taps) {
  const size_t padded = size_t((n + kPixelBlock - 1) / kPixelBlock * kPixelBlock);
  taps.first.resize(padded), taps.count.resize(padded);
  for (int k = 0; k < n; ++k) {
    const size_t at = size_t(reverse ? n - 1 - k : k);
    taps.first[at] = int(axis.begin(from + k));
    taps.count[at] = int(axis.end(from + k)) - taps.first[at];
  }
  std::fill(taps.first.begin() + n, taps.first.end(), taps.first[0]);
  std::fill(taps.count.begin() + n, taps.count.end(), 0);
  taps.stride = *std::ranges::max_element(taps.count);
  taps.weights.assign(padded * size_t(taps.stride), 0);
  std::vector<double> w(static_cast<size_t>(taps.stride));
  const double step = 1.0 / axis.stretch;
  for (int k = 0; k < n; ++k) {
    const size_t at = size_t(reverse ? n - 1 - k : k), count = size_t(taps.count[at]);
    const double center = axis.center(from + k), begin = taps.first[at];
    double sum = 0;
    for (size_t t = 0; t < count; ++t) {
      w[t] = weight_at(filter, (double(t) + begin - center + 0.5) * step);
      sum += w[t];
    }
    int32_t* out = &taps.weights[at * size_t(taps.stride)];
    for (size_t t = 0; t < count; ++t) {
      const double v = (sum != 0 ? w[t] / sum : w[t]) * (1 << kFractionBits);
      out[t] = int32_t(v < 0 ? v - 0.5 : v + 0.5);
    }
  }
}

// Scratch memory: made larger where needed and never smaller, as growing again would clear it.
void grow(std::vector<uint8_t>& memory, size_t bytes) {
  if (memory.size() < bytes) memory.resize(bytes);
}

void check_resize(int height, int width, const Resize& r) {
  const Box& w = r.window;
  check(height > 0 && width > 0 && w.width > 0 && w.height > 0 && w.left >= 0 && w.top >= 0 &&
            w.right() <= r.width && w.bottom() <= r.height,
        "resize: a window of {} x {} at ({}, {}) of {} x {} from {} x {} pixels", w.width, w.height,
        w.left, w.top, r.width, r.height, width, height);
}

}  // namespace

Box source_box(int source_height, int source_width, const Resize& r) {
  check_resize(source_height, source_width, r);
  const Axis x(source_width, r.width, r.filter), y(source_height, r.height, r.filter);
  const int left = int(x.begin(r.window.left)), top = int(y.begin(r.window.top));
  return {left, top, int(x.end(r.window.right() - 1)) - left,
          int(y.end(r.window.bottom() - 1)) - top};
}

void Resizer::operator()(const ImageView& source, const Resize& r, uint8_t* out) {
  (*this)(source, {0, 0, source.width, source.height}, source.height, source.width, r, out);
}

void Resizer::operator()(const ImageView& part, const Box& where, int source_height,
                         int source_width, const Resize& r, uint8_t* out) {
  const Box used = source_box(source_height, source_width, r);
  check(part.height == where.height && part.width == where.width && where.left <= used.left &&
            where.top <= used.top && where.right() >= used.right() &&
            where.bottom() >= used.bottom(),
        "resize: the pixels at hand do not cover the window");
  const Box& window = r.window;
  make_taps(Axis(source_width, r.width, r.filter), r.filter, window.left, window.width, r.flip,
            columns_);
  make_taps(Axis(source_height, r.height, r.filter), r.filter, window.top, window.height, false,
            rows_);
  for (int& x : columns_.first) x -= where.left;
  for (int& y : rows_.first) y -= used.top;

  const size_t in_bytes = size_t(part.width) * 3, out_bytes = size_t(window.width) * 3;
  const size_t pitch = out_bytes + kRowSlack;
  source_rows_.resize(size_t(used.height));
  for (int y = 0; y < used.height; ++y)
    source_rows_[size_t(y)] = part.row(used.top - where.top + y);
  const uint8_t* end = part.row(part.height - 1) + in_bytes;
  const size_t padded_bytes = in_bytes + size_t(columns_.stride) * 3 + kRowSlack;
  const auto last =
      std::partition_point(source_rows_.begin(), source_rows_.end(),
                           [&](const uint8_t* row) { return size_t(end - row) >= padded_bytes; });
  grow(padded_, size_t(source_rows_.end() - last) * padded_bytes);
  uint8_t* copy = padded_.data();
  for (auto row = last; row != source_rows_.end(); ++row, copy += padded_bytes) {
    std::memcpy(copy, *row, in_bytes);
    *row = copy;
  }
  if (resize_vnni(source_rows_.data(), used.height, columns_, rows_, window.width, window.height,
                  out))
    return;
  grow(narrow_, size_t(used.height) * pitch);
  resize_rows(source_rows_.data(), used.height, columns_, window.width, narrow_.data(), pitch);
  for (int y = 0; y < window.height; ++y) {
    const size_t i = size_t(y);
    blend_rows(&narrow_[size_t(rows_.first[i]) * pitch], pitch, rows_.weights_of(y), rows_.count[i],
               out_bytes, out + i * out_bytes);
  }
}

}  // namespace sg::data
