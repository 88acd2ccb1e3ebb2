// Lines of text files that people write.
#pragma once
#include <string_view>

namespace sg::data {

// Without white space and zero bytes at the ends, and without the mark of UTF-8 that Windows puts
// in front of a file.
inline std::string_view trimmed(std::string_view s) {
  if (s.starts_with("\xEF\xBB\xBF")) s.remove_prefix(3);
  constexpr std::string_view kSpace{" \t\r\n\0", 5};
  const size_t begin = s.find_first_not_of(kSpace);
  return begin == s.npos ? "" : s.substr(begin, s.find_last_not_of(kSpace) - begin + 1);
}

}  // namespace sg::data
