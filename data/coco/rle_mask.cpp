#include "data/coco/rle_mask.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "core/error.h"

namespace sg::data {
namespace {

constexpr int64_t kMaxPixels = std::numeric_limits<int32_t>::max();

// f(length, in a, in b) of each stretch of pixels in which neither changes.
template <class F>
void each_stretch(const RleMask& a, const RleMask& b, const F& f) {
  check(a.height == b.height && a.width == b.width,
        "masks: expected one size, found {} x {} and {} x {} (height x width)", a.height, a.width,
        b.height, b.width);
  uint32_t left_a = 0, left_b = 0;  // of the current runs
  size_t next_a = 0, next_b = 0;
  while (true) {
    while (left_a == 0 && next_a < a.counts.size()) left_a = a.counts[next_a++];
    while (left_b == 0 && next_b < b.counts.size()) left_b = b.counts[next_b++];
    const uint32_t length = std::min(left_a, left_b);
    if (length == 0) return;
    f(length, next_a % 2 == 0, next_b % 2 == 0);
    left_a -= length, left_b -= length;
  }
}

template <class F>
RleMask combine(const RleMask& a, const RleMask& b, const F& f) {
  RleMask out{a.height, a.width, {}};
  RleWriter writer(out);
  each_stretch(a, b,
               [&](uint32_t length, bool in_a, bool in_b) { writer.add(length, f(in_a, in_b)); });
  return out;
}

}  // namespace

void RleWriter::add(uint32_t pixels, bool one) {
  if (pixels == 0) return;
  if (one != (mask_.counts.size() % 2 == 0)) mask_.counts.push_back(0);
  mask_.counts.back() += pixels;
  written_ += pixels;
}

void RleWriter::add(std::span<const uint8_t> pixels) {
  while (!pixels.empty()) {
    const auto* change =
        static_cast<const uint8_t*>(std::memchr(pixels.data(), !pixels[0], pixels.size()));
    const size_t run = change ? size_t(change - pixels.data()) : pixels.size();
    add(uint32_t(run), pixels[0]);
    pixels = pixels.subspan(run);
  }
}

void RleWriter::finish() { add(uint32_t(int64_t{mask_.height} * mask_.width - written_), false); }

int64_t RleMask::area() const {
  int64_t sum = 0;
  for (size_t i = 1; i < counts.size(); i += 2) sum += counts[i];
  return sum;
}

CocoBox RleMask::box() const {
  int64_t left = width, right = -1, top = height, bottom = -1, position = 0;
  for (size_t i = 0; i + 1 < counts.size(); i += 2) {
    const int64_t begin = position + counts[i];
    position = begin + counts[i + 1];
    if (position == begin) continue;
    const int64_t first = begin / height, last = (position - 1) / height;
    left = std::min(left, first), right = std::max(right, last);
    const bool one_column = first == last;
    top = std::min(top, one_column ? begin % height : 0);
    bottom = std::max(bottom, one_column ? (position - 1) % height : height - 1);
  }
  if (right < 0) return {};
  return {double(left), double(top), double(right - left + 1), double(bottom - top + 1)};
}

void check_rle(const RleMask& mask) {
  if (mask.height < 1 || mask.width < 1 || int64_t{mask.height} * mask.width > kMaxPixels)
    fail(ExitCode::data, "RLE: expected a size of 1 x 1 to 2^31 pixels, found {} x {}", mask.height,
         mask.width);
  int64_t sum = 0;
  for (const uint32_t count : mask.counts) sum += count;
  if (sum != int64_t{mask.height} * mask.width)
    fail(ExitCode::data, "RLE: expected counts that add up to {} x {} pixels, found a sum of {}",
         mask.height, mask.width, sum);
}

std::string rle_to_string(const RleMask& mask) {
  std::string text;
  for (size_t i = 0; i < mask.counts.size(); ++i) {
    int64_t value = mask.counts[i];
    if (i > 2) value -= mask.counts[i - 2];
    for (bool more = true; more;) {
      const int64_t bits = value & 0x1f;
      value >>= 5;
      more = value != (bits & 0x10 ? -1 : 0);
      text += char(48 + (bits | (more ? 0x20 : 0)));
    }
  }
  return text;
}

RleMask rle_from_string(std::string_view text, int height, int width) {
  RleMask mask{height, width, {}};
  for (size_t at = 0; at < text.size();) {
    int64_t value = 0;
    int shift = 0;
    for (bool more = true; more; shift += 5) {
      if (at == text.size() || shift > 35)
        fail(ExitCode::data,
             "RLE: the string of counts ends within a number, or has one beyond 32 bits");
      const int bits = uint8_t(text[at++]) - 48;
      if (bits < 0 || bits > 63)
        fail(
            ExitCode::data,
            "RLE: expected characters from '0' to 'o' in the string of counts, found code {} at {}",
            bits + 48, at - 1);
      value |= int64_t{bits & 0x1f} << shift;
      more = bits & 0x20;
      if (!more && (bits & 0x10)) value -= int64_t{1} << (shift + 5);
    }
    const size_t i = mask.counts.size();
    if (i > 2) value += mask.counts[i - 2];
    if (value < 0 || value > kMaxPixels)
      fail(ExitCode::data, "RLE: count {} of the string is {}, expected 0 to 2^31", i, value);
    mask.counts.push_back(uint32_t(value));
  }
  check_rle(mask);
  return mask;
}

RleMask rle_from_pixels(const uint8_t* pixels, int height, int width) {
  RleMask mask{height, width, {}};
  RleWriter writer(mask);
  // A cache line of each row at a time, as columns.
  constexpr int kColumns = 64;
  std::vector<uint8_t> columns(size_t(height) * kColumns);
  for (int left = 0; left < width; left += kColumns) {
    const int n = std::min(kColumns, width - left);
    for (int y = 0; y < height; ++y) {
      const uint8_t* row = pixels + size_t(y) * size_t(width) + left;
      for (int x = 0; x < n; ++x) columns[size_t(x) * size_t(height) + size_t(y)] = row[x] != 0;
    }
    writer.add(std::span(columns).first(size_t(n) * size_t(height)));
  }
  return mask;
}

void rle_to_columns(const RleMask& mask, uint8_t* pixels) {
  for (size_t i = 0; i < mask.counts.size(); ++i) {
    std::memset(pixels, i % 2 != 0, mask.counts[i]);
    pixels += mask.counts[i];
  }
}

void rle_to_pixels(const RleMask& mask, uint8_t* pixels) {
  std::memset(pixels, 0, size_t(mask.height) * size_t(mask.width));
  int64_t position = 0;
  for (size_t i = 0; i < mask.counts.size(); position += mask.counts[i++]) {
    if (i % 2 == 0) continue;
    int64_t x = position / mask.height, y = position % mask.height;
    for (uint32_t k = 0; k < mask.counts[i]; ++k) {
      pixels[y * mask.width + x] = 1;
      if (++y == mask.height) y = 0, ++x;
    }
  }
}

RleMask rle_gather(const RleMask& mask, std::span<const int> rows, std::span<const int> columns) {
  // The output row at which each row of the mask begins.
  std::vector<uint32_t> row_begin(size_t(mask.height) + 1);
  for (size_t y = 0, to = 0; y < row_begin.size(); ++y) {
    while (to < rows.size() && rows[to] < int(y)) ++to;
    row_begin[y] = uint32_t(to);
  }
  struct Run {
    uint32_t begin, end;  // output rows
  };
  std::vector<Run> runs;
  std::vector<size_t> run_ends(size_t(mask.width), 0);  // of the columns of the mask
  uint32_t position = 0;
  const auto height = uint32_t(mask.height);
  for (size_t i = 0; i < mask.counts.size(); position += mask.counts[i++]) {
    if (i % 2 == 0) continue;
    const uint32_t end = position + mask.counts[i];
    for (uint32_t at = position; at < end;) {
      const uint32_t column = at / height, top = column * height;
      const uint32_t to = std::min(end, top + height);
      runs.push_back({row_begin[at - top], row_begin[to - top]});
      run_ends[column] = runs.size();
      at = to;
    }
  }
  for (size_t x = 1; x < run_ends.size(); ++x) run_ends[x] = std::max(run_ends[x], run_ends[x - 1]);
  RleMask out{int(rows.size()), int(columns.size()), {}};
  RleWriter writer(out);
  for (const int x : columns) {
    uint32_t done = 0;
    for (size_t i = x ? run_ends[size_t(x) - 1] : 0; i < run_ends[size_t(x)]; ++i) {
      writer.add(runs[i].begin - done, false);
      writer.add(runs[i].end - runs[i].begin, true);
      done = runs[i].end;
    }
    writer.add(uint32_t(rows.size()) - done, false);
  }
  return out;
}

RleMask rle_union(const RleMask& a, const RleMask& b) {
  return combine(a, b, [](bool in_a, bool in_b) { return in_a || in_b; });
}

RleMask rle_intersection(const RleMask& a, const RleMask& b) {
  return combine(a, b, [](bool in_a, bool in_b) { return in_a && in_b; });
}

int64_t intersection_area(const RleMask& a, const RleMask& b) {
  int64_t sum = 0;
  each_stretch(a, b,
               [&](uint32_t length, bool in_a, bool in_b) { sum += in_a && in_b ? length : 0; });
  return sum;
}

double mask_iou(const MeasuredMask& detection, const MeasuredMask& object, bool crowd) {
  if (intersection_area(detection.box, object.box) == 0) return 0;
  const int64_t shared = intersection_area(detection.rle, object.rle);
  const int64_t of = crowd ? detection.area : detection.area + object.area - shared;
  return double(shared) / double(of);
}

}  // namespace sg::data
