#include "report/matrix_image.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "data/draw.h"

namespace sg::report {
namespace {

using data::Rgb, data::fill;
constexpr Rgb kInk{22, 25, 29}, kSoft{93, 102, 115}, kPage{255, 255, 255}, kRight{42, 111, 219},
    kWrong{192, 57, 43};
constexpr int kScale = 2;  // pixels a pixel of the font
constexpr int kLine = 12 * kScale, kMargin = 16;
constexpr size_t kMaxNamed = 60, kLongestName = 24;
constexpr int kMaxSide = 3600;

std::string printable_ascii(const std::string& text) {
  return data::printable_ascii(text, kLongestName);
}
int text_width(const std::string& text) { return data::text_width(text, kScale); }
void write(data::Image& image, int x, int y, const std::string& text, Rgb color,
           bool upwards = false) {
  data::write_text(image, x, y, text, color, kScale, upwards);
}

// At most four letters, so that cells stay narrow: 9999, 12k, 3.4M.
std::string short_count(int64_t count) {
  if (count < 10000) return std::to_string(count);
  double value = double(count);
  const char* unit = "kMGTPE";
  for (value /= 1000; value >= 999.5; ++unit) value /= 1000;
  return fmt::format("{:.{}f}{}", value, value < 9.95 ? 1 : 0, *unit);
}

Rgb mixed(Rgb color, double share) {
  Rgb out;
  for (size_t c = 0; c < 3; ++c)
    out[c] = uint8_t(std::lround(std::lerp(kPage[c], color[c], share)));
  return out;
}

}  // namespace

data::Image matrix_image(const Matrix& matrix) {
  const auto n = int(matrix.names.size());
  check(n > 0 && matrix.counts.size() == size_t(n) * size_t(n),
        "matrix_image: {} counts of {} names", matrix.counts.size(), n);
  check(n <= kMaxSide, "matrix_image: {} names, at most {} can be drawn", n, kMaxSide);
  const bool named = size_t(n) <= kMaxNamed;
  std::vector<std::string> names;
  int longest = 0, widest = 0;
  for (const std::string& name : matrix.names)
    names.push_back(printable_ascii(name)), longest = std::max(longest, text_width(names.back()));
  for (const int64_t c : matrix.counts)
    if (c) widest = std::max(widest, text_width(short_count(c)));
  if (!named) longest = 0;
  const int cell = named ? std::max(kLine + 4, widest + 8) : std::max(kMaxSide / n / 2, 1);
  const std::string row_axis = printable_ascii(matrix.row_axis);
  const int left = kMargin + std::max(longest, text_width(row_axis)) + 8;
  const int top = kMargin + kLine + longest + 8;

  data::Image image;
  image.reset(top + n * cell + kMargin, left + std::max(n * cell, 160) + kMargin);
  fill(image, {0, 0, image.width, image.height}, kPage);
  write(image, left, kMargin, printable_ascii(matrix.column_axis), kSoft);
  write(image, left - 8 - text_width(row_axis), top - 8 - 8 * kScale, row_axis, kSoft);
  for (int row = 0; row < n; ++row) {
    const int64_t* counts = matrix.counts.data() + int64_t(row) * n;
    int64_t sum = 0;
    for (int i = 0; i < n; ++i) sum += counts[i];
    if (named) {
      const std::string& name = names[size_t(row)];
      const int middle = row * cell + (cell - 8 * kScale) / 2;
      write(image, left - 8 - text_width(name), top + middle, name, kInk);
      write(image, left + middle, top - 8, name, kInk, true);
    }
    for (int column = 0; column < n; ++column) {
      const int64_t count = counts[column];
      const double share = sum ? double(count) / double(sum) : 0;
      const int x = left + column * cell, y = top + row * cell, gap = named ? 1 : 0;
      // The square root, so that a few wrong ones are seen.
      const Rgb color = mixed(row == column ? kRight : kWrong, std::sqrt(share));
      fill(image, {x, y, cell - gap, cell - gap}, named && !count ? Rgb{246, 247, 249} : color);
      if (!named || !count) continue;
      const std::string text = short_count(count);
      write(image, x + (cell - text_width(text)) / 2, y + (cell - 8 * kScale) / 2, text,
            share > 0.3 ? kPage : kInk);
    }
  }
  return image;
}

}  // namespace sg::report
