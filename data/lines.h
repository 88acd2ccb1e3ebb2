// Lines of text files that people write.
#pragma once
#include <string_view>

namespace sg::data {

// Without white space, and without zero bytes, at the ends.
inline std::string_view trimmed(std::string_view s) {
  constexpr std::string_view kSpace{" \t\r\n\0", 5};
  const size_t begin = s.find_first_not_of(kSpace);
  return begin == s.npos ? "" : s.substr(begin, s.find_last_not_of(kSpace) - begin + 1);
}

// Without the mark of UTF-8 that some editors begin a file with.
inline std::string_view without_mark(std::string_view text) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  return text;
}

}  // namespace sg::data
