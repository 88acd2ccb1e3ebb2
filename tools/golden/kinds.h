// The kinds of golden files that are checked. A new kind is a function in a file of its own,
// golden_<kind>.{h,cpp}, and a line of the table in kinds.cpp.
#pragma once
#include <string_view>

#include "tools/golden/case.h"

namespace sg::golden {

// Computes what the file asks for; a row per tensor of it, from Comparison::finish().
using Check = std::vector<Row>(const Case& c);

struct Kind {
  std::string_view module;  // as the file's metadata names it
  Check* check;
};

// Null where a kind is not known.
const Kind* find_kind(std::string_view module);

}  // namespace sg::golden
