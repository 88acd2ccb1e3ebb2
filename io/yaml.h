// Configurations of people: YAML, or JSON.
#pragma once
#include <nlohmann/json.hpp>
#include <string_view>

#include "core/error.h"

namespace sg {

// The one document of a YAML text of at most 64 KiB, as JSON. What is not quoted is null, true or
// false, a decimal number, or else a text; so 1e-3 is a number, and 'yes' is a text. Equal keys in
// one object, aliases, tags, and nesting beyond 64 levels are refused. Errors carry `code`, start
// with `name`, and say the line.
nlohmann::json parse_yaml(std::string_view text, std::string_view name, ExitCode code);

// JSON (io/json.h) where the text begins with '{', else YAML.
nlohmann::json parse_config(std::string_view text, std::string_view name, ExitCode code);

}  // namespace sg
