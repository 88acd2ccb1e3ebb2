#include "core/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

namespace sg {
namespace {

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row[b.size()];
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
  const std::string* best = nullptr;
  size_t distance = std::max<size_t>(2, word.size() / 3) + 1;
  for (const std::string& k : known)
    if (const size_t d = edit_distance(word, k); d < distance) best = &k, distance = d;
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

}  // namespace sg
