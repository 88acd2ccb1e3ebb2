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

}  // namespace

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
