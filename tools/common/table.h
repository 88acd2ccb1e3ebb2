// Tables of findings on standard output.
#pragma once
#include "core/findings.h"

namespace sg::tools {

// The first and the last column from the left, the others, numbers, from the right.
void print(const Table& table);

}  // namespace sg::tools
