#include "data/coco/segmentation.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "core/error.h"

namespace sg::data {
namespace {

constexpr int kFifths = 5;  // of a pixel
constexpr double kMaxPixel =
    1e8;  // of a coordinate, so that fifths and their differences are exact

// Where the boundary crosses columns of pixels: positions in column-major order, at each of which
// the pixels from there on change sides.
class Crossings {
 public:
  Crossings(int height, int width) : height_(height), width_(width) {}

  // Points of the edge lie a fifth apart along its longer axis, and on the nearest fifth of the
  // other. Of two neighbours that lie on both sides of the middle of a column, the upper one
  // counts.
  void add_edge(Vertex a, Vertex b) {
    const int64_t dx = std::abs(int64_t{b[0]} - a[0]), dy = std::abs(int64_t{b[1]} - a[1]);
    if (dx == 0) return;
    const bool wide = dx >= dy;
    if (wide ? a[0] > b[0] : a[1] > b[1]) std::swap(a, b);
    const int64_t left = std::min(a[0], b[0]), right = std::max(a[0], b[0]);
    // Columns c whose middle is between the fifths 5 c + 2 and 5 c + 3.
    const int64_t first = left <= 2 ? 0 : (left - 2 + kFifths - 1) / kFifths;
    const int64_t last = std::min<int64_t>((right - 3 + kFifths) / kFifths - 1, width_ - 1);
    const double slope = wide ? double(int64_t{b[1]} - a[1]) / double(dx)
                              : double(int64_t{b[0]} - a[0]) / double(dy);
    for (int64_t c = first; c <= last; ++c)
      add(c, wide ? upper_of_wide(a, slope, c) : upper_of_steep(a, slope, dy, c));
  }

  RleMask mask() {
    std::ranges::sort(positions_);
    const auto pixels = uint32_t(int64_t{height_} * width_);
    RleMask mask{height_, width_, {}};
    uint32_t done = 0;
    for (auto at = positions_.begin(); at != positions_.end();) {
      const auto next = std::find_if(at, positions_.end(), [&](uint32_t p) { return p != *at; });
      if ((next - at) % 2 != 0 && *at < pixels) mask.counts.push_back(*at - done), done = *at;
      at = next;
    }
    mask.counts.push_back(pixels - done);
    return mask;
  }

 private:
  // Of the point t steps from `from`, the other coordinate.
  static int64_t rounded(int32_t from, double slope, int64_t t) {
    return int64_t(double(from) + slope * double(t) + 0.5);
  }

  static int64_t upper_of_wide(Vertex a, double slope, int64_t column) {
    const int64_t t = kFifths * column + 2 - a[0];
    return std::min(rounded(a[1], slope, t), rounded(a[1], slope, t + 1));
  }

  // x is monotonous in t: the one place where it steps over the middle of the column.
  static int64_t upper_of_steep(Vertex a, double slope, int64_t steps, int64_t column) {
    const int64_t right = kFifths * column + 3;
    const auto is_right = [&](int64_t t) { return rounded(a[0], slope, t) >= right; };
    const double guess = (double(right) - 0.5 - a[0]) / slope;
    auto t = int64_t(std::clamp(guess, 0.0, double(steps)));
    const bool rising = slope > 0;
    while (t < steps && is_right(t) != rising) ++t;  // to where it is beyond
    while (t > 0 && is_right(t - 1) == rising) --t;  // and that the first such
    return a[1] + t - 1;
  }

  void add(int64_t column, int64_t fifth) {
    const int64_t y = fifth <= 2 ? 0 : std::min<int64_t>((fifth + 2) / kFifths, height_);
    positions_.push_back(uint32_t(column * height_ + y));
  }

  int height_, width_;
  std::vector<uint32_t> positions_;
};

void append_number(std::vector<uint8_t>& bytes, uint64_t value) {
  for (; value >= 0x80; value >>= 7) bytes.push_back(uint8_t(value) | 0x80);
  bytes.push_back(uint8_t(value));
}

// Small for small numbers of either sign.
void append_signed(std::vector<uint8_t>& bytes, int64_t value) {
  append_number(bytes, uint64_t(value) << 1 ^ uint64_t(value >> 63));
}

class ByteReader {
 public:
  explicit ByteReader(std::span<const uint8_t> bytes) : bytes_(bytes) {}
  uint64_t number() {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      const uint8_t byte = bytes_[at_++];
      value |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return value;
    }
  }
  int64_t signed_number() {
    const uint64_t n = number();
    return int64_t(n >> 1) ^ -int64_t(n & 1);
  }
  std::string_view text(size_t length) {
    const auto part = bytes_.subspan(at_, length);
    at_ += length;
    return {reinterpret_cast<const char*>(part.data()), length};
  }

 private:
  std::span<const uint8_t> bytes_;
  size_t at_ = 0;
};

}  // namespace

RleMask rasterize(std::span<const Vertex> polygon, int height, int width) {
  Crossings crossings(height, width);
  for (size_t i = 0; i < polygon.size(); ++i)
    crossings.add_edge(polygon[i], polygon[(i + 1) % polygon.size()]);
  return crossings.mask();
}

CocoSegmentation::CocoSegmentation(std::span<const double> numbers, std::span<const size_t> ends) {
  const bool boxes = !ends.empty() && ends[0] == 4;
  size_t begin = 0;
  for (const size_t end : ends) {
    const auto list = numbers.subspan(begin, end - begin);
    if (boxes) {
      if (list.size() != 4)
        fail(ExitCode::data, "expected boxes of 4 numbers, as the first list is one, found {}",
             list.size());
      const double x = list[0], y = list[1], right = x + list[2], bottom = y + list[3];
      add_vertex(x, y), add_vertex(x, bottom), add_vertex(right, bottom), add_vertex(right, y);
    } else {
      for (size_t i = 0; i + 1 < list.size(); i += 2) add_vertex(list[i], list[i + 1]);
    }
    ends_.push_back(vertices_.size());
    begin = end;
  }
}

void CocoSegmentation::add_vertex(double x, double y) {
  for (const double v : {x, y})
    if (!(std::abs(v) < kMaxPixel))
      fail(ExitCode::data, "expected coordinates within {:.0e} pixels, found {}", kMaxPixel, v);
  vertices_.push_back({int32_t(kFifths * x + 0.5), int32_t(kFifths * y + 0.5)});
}

RleMask CocoSegmentation::mask(int height, int width) const {
  if (is_rle_) {
    if (rle_.height != height || rle_.width != width)
      fail(ExitCode::data,
           "expected an RLE of {} x {} (height x width), the size of its image, found {} x {}",
           height, width, rle_.height, rle_.width);
    return rle_;
  }
  RleMask all = rasterize({}, height, width);
  size_t begin = 0;
  for (const size_t end : ends_) {
    RleMask part = rasterize(std::span(vertices_).subspan(begin, end - begin), height, width);
    all = begin == 0 ? std::move(part) : rle_union(all, part);
    begin = end;
  }
  return all;
}

void CocoSegmentation::append_to(std::vector<uint8_t>& bytes) const {
  append_number(bytes, ends_.size() << 1 | size_t(is_rle_));
  if (is_rle_) {
    const std::string counts = rle_to_string(rle_);
    for (const size_t n : {size_t(rle_.height), size_t(rle_.width), counts.size()})
      append_number(bytes, n);
    bytes.insert(bytes.end(), counts.begin(), counts.end());
    return;
  }
  size_t begin = 0;
  Vertex before{};
  for (const size_t end : ends_) {
    append_number(bytes, end - begin);
    for (; begin < end; ++begin) {
      for (size_t d : {0, 1}) append_signed(bytes, int64_t{vertices_[begin][d]} - before[d]);
      before = vertices_[begin];
    }
  }
}

CocoSegmentation CocoSegmentation::read(std::span<const uint8_t> bytes) {
  ByteReader reader(bytes);
  const uint64_t kind = reader.number();
  if (kind & 1) {
    const auto height = int(reader.number()), width = int(reader.number());
    return CocoSegmentation(rle_from_string(reader.text(reader.number()), height, width));
  }
  CocoSegmentation s;
  Vertex at{};
  for (uint64_t n = kind >> 1; n > 0; --n) {
    for (uint64_t vertices = reader.number(); vertices > 0; --vertices) {
      for (size_t d : {0, 1}) at[d] = int32_t(at[d] + reader.signed_number());
      s.vertices_.push_back(at);
    }
    s.ends_.push_back(s.vertices_.size());
  }
  return s;
}

}  // namespace sg::data
