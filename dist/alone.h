// The group of one process.
#pragma once
#include "dist/group.h"

namespace sg::dist {

Group& alone();

}  // namespace sg::dist
