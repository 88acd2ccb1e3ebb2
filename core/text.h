// Small helpers for messages and names.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace sg {

// The nearest of `known` by edit distance as "; did you mean 'x'?", or "" when none is near.
std::string did_you_mean(std::string_view word, const std::vector<std::string>& known);

// Names of files and folders are bytes; JSON, reports and logs are UTF-8. In what is written a name
// has \xe9 in place of a byte that is no UTF-8, and \x5c for a backslash that could be taken for
// the begin of such. So two names never become one, and unescape_name() gives the bytes back.
std::string escape_name(std::string_view bytes);
std::string unescape_name(std::string_view text);
// Of a message, which may hold escaped names already: odd bytes alone.
std::string escape_odd_bytes(std::string_view text);
// The words as one line that a shell takes apart into the same bytes again: "sgtrain --data 'my
// images'".
std::string shell_command(const std::vector<std::string>& words);

}  // namespace sg
