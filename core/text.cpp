#include "core/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <limits>

namespace sg {
namespace {

// Letters put in, left out, replaced, or exchanged with their neighbour.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<size_t>> d(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i)
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        d[i][j] = i + j;
        continue;
      }
      d[i][j] =
          std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  return d[a.size()][b.size()];
}

// Without what does not count: "--Epochs" is "epochs".
std::string bare(std::string_view word) {
  word.remove_prefix(std::min(word.find_first_not_of('-'), word.size()));
  std::string text(word);
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? char(c - 'A' + 'a') : c;
  return text;
}

template <class T>
std::optional<T> parsed(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return {};
  return value;
}

}  // namespace

std::string did_you_mean(std::string_view word, const std::vector<std::string>& known) {
  constexpr size_t kLongest = 100;  // what is longer is no slip of the finger
  const std::string typed = bare(word);
  if (typed.size() > kLongest) return "";
  const std::string *best = nullptr, *longer = nullptr;
  size_t distance = typed.size() < 3 ? 1 : std::max<size_t>(typed.size() / 4, 1) + 1;
  int beginnings = 0;
  for (const std::string& k : known) {
    const std::string name = bare(k);
    if (const size_t d = edit_distance(typed, name); d < distance) best = &k, distance = d;
    if (typed.size() >= 3 && name.starts_with(typed)) longer = &k, ++beginnings;
  }
  if (!best && beginnings == 1) best = longer;
  return best ? fmt::format("; did you mean '{}'?", *best) : "";
}

std::optional<int64_t> parse_integer(std::string_view text) { return parsed<int64_t>(text); }
std::optional<double> parse_number(std::string_view text) { return parsed<double>(text); }

std::string str(const ImageSize& size) {
  return size.height == size.width ? fmt::format("{}", size.height)
                                   : fmt::format("{}x{}", size.height, size.width);
}

std::optional<ImageSize> parse_image_size(std::string_view text) {
  const auto side = [](std::string_view s) -> std::optional<int> {
    const auto n = parse_integer(s);
    if (!n || *n < std::numeric_limits<int>::min() || *n > std::numeric_limits<int>::max())
      return {};
    return int(*n);
  };
  const size_t middle = text.find_first_of("x ");
  const auto height = side(text.substr(0, middle));
  const auto width = middle == text.npos ? height : side(text.substr(middle + 1));
  if (!height || !width) return {};
  return ImageSize(*height, *width);
}

}  // namespace sg
