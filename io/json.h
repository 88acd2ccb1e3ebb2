// JSON from files that we did not write.
#pragma once
#include <nlohmann/json.hpp>
#include <string_view>

#include "core/error.h"

namespace sg {

// Unlike nlohmann's own parse it refuses equal keys in one object, and nesting beyond 64 levels,
// on which copying or printing the document would overflow the stack. Errors carry `code` and
// start with `name`. Comments are allowed where asked for.
nlohmann::json parse_json(std::string_view text, std::string_view name, ExitCode code,
                          bool comments = false);

}  // namespace sg
