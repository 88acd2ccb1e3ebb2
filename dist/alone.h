// The group of one process.
#pragma once
#include <memory>

#include "dist/group.h"

namespace sg::dist {

std::unique_ptr<Group> alone();

}  // namespace sg::dist
