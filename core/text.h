// Small helpers for messages.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace sg {

// The nearest of `known` by edit distance as "; did you mean 'x'?", or "" when none is near.
std::string did_you_mean(std::string_view word, const std::vector<std::string>& known);

// The words as one line that a shell takes apart into the same bytes again: "sgtrain --data 'my
// images'".
std::string shell_command(const std::vector<std::string>& words);

}  // namespace sg
