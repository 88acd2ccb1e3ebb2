// JSON from files that we did not write.
#pragma once
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "core/box.h"
#include "core/error.h"

namespace sg {

// Unlike nlohmann's own parse it refuses equal keys in one object, and nesting beyond 64 levels,
// on which copying or printing the document would overflow the stack. Errors carry `code` and
// start with `name`. Comments are allowed where asked for.
nlohmann::json parse_json(std::string_view text, std::string_view name, ExitCode code,
                          bool comments = false);

// Image sizes in args.json: 224, or "320 256" (height, width) where the sides differ. Reading also
// takes "320x256" and [320, 256], and returns nothing for anything else.
nlohmann::json image_size_to_json(const ImageSize& size);
std::optional<ImageSize> image_size_from_json(const nlohmann::json& json);

}  // namespace sg
