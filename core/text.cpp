#include "core/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
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

// Bytes of the UTF-8 character that begins at `at`, 0 where there is none.
size_t utf8_length(std::string_view s, size_t at) {
  const auto byte = [&](size_t i) { return at + i < s.size() ? uint8_t(s[at + i]) : 0; };
  const uint8_t first = byte(0);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4) return 0;
  for (size_t i = 1; i < length; ++i)
    if ((byte(i) & 0xC0) != 0x80) return 0;
  // Too long a form, a surrogate, or beyond the last character.
  const uint8_t second = byte(1);
  const bool wrong = (first == 0xE0 && second < 0xA0) || (first == 0xED && second > 0x9F) ||
                     (first == 0xF0 && second < 0x90) || (first == 0xF4 && second > 0x8F);
  return wrong ? 0 : length;
}

// The value of "\\xe9", with small letters, at `at`; -1 where there is none.
int escape_at(std::string_view s, size_t at) {
  if (at + 4 > s.size() || s[at] != '\\' || s[at + 1] != 'x') return -1;
  int value = 0;
  for (size_t i = at + 2; i < at + 4; ++i) {
    const bool digit = s[i] >= '0' && s[i] <= '9', letter = s[i] >= 'a' && s[i] <= 'f';
    if (!digit && !letter) return -1;
    value = value * 16 + (digit ? s[i] - '0' : s[i] - 'a' + 10);
  }
  return value;
}

std::string escaped(std::string_view s, bool backslashes) {
  std::string result;
  for (size_t at = 0; at < s.size();) {
    const size_t length = utf8_length(s, at);
    if (length == 0 || (backslashes && escape_at(s, at) >= 0)) {
      result += fmt::format("\\x{:02x}", uint8_t(s[at++]));
    } else {
      result += s.substr(at, length);
      at += length;
    }
  }
  return result;
}

}  // namespace

std::string escape_name(std::string_view bytes) { return escaped(bytes, true); }
std::string escape_odd_bytes(std::string_view text) { return escaped(text, false); }

std::string unescape_name(std::string_view text) {
  std::string bytes;
  for (size_t at = 0; at < text.size();) {
    const int value = escape_at(text, at);
    bytes += value >= 0 ? char(value) : text[at];
    at += value >= 0 ? 4 : 1;
  }
  return bytes;
}

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

std::string shell_command(const std::vector<std::string>& words) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,@%";
  std::string line;
  for (const std::string& word : words) {
    if (!line.empty()) line += ' ';
    const bool shown = std::ranges::all_of(word, [](char c) { return c >= 0x20 && c < 0x7f; });
    if (!word.empty() && word.find_first_not_of(kPlain) == std::string::npos) {
      line += word;
      continue;
    }
    line += shown ? "'" : "$'";  // bash, zsh and POSIX of 2024 know the second
    for (const char c : word) {
      if (c < 0x20 || c >= 0x7f)
        line += fmt::format("\\x{:02x}", uint8_t(c));
      else if (c == '\'')
        line += shown ? "'\\''" : "\\'";
      else if (c == '\\' && !shown)
        line += "\\\\";
      else
        line += c;
    }
    line += '\'';
  }
  return line;
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

// The sign of a NaN means nothing.
std::string fixed(double value, int digits) {
  return std::isnan(value) ? "nan" : fmt::format("{:.{}f}", value, digits);
}

}  // namespace sg
