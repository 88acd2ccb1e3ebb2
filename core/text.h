// Small helpers for messages.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace sg {

// The nearest of `known` by edit distance as "; did you mean 'x'?", or "" when none is near.
std::string did_you_mean(std::string_view word, const std::vector<std::string>& known);

// "1.235"; "nan", "inf" or "-inf" where it is no such number.
std::string fixed(double value, int digits);

}  // namespace sg
