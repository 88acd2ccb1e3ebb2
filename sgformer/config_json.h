// A configuration as JSON: how checkpoints and args.json keep it.
#pragma once
#include <nlohmann/json.hpp>

#include "sgformer/config.h"

namespace sg::sgformer {

// From 0 to 2^31 - 1; nlohmann's get() would cut what does not fit. Throws ExitCode::checkpoint.
int64_t whole_number(const nlohmann::json& json);

nlohmann::json config_to_json(const Config& config);
// A configuration that fits together; throws ExitCode::checkpoint naming what is missing, of the
// wrong type, or does not fit.
Config config_from_json(const nlohmann::json& json);
// The fields in which two configurations differ, "name: a | b" a line; "" where none.
std::string config_differences(const Config& a, const Config& b);

}  // namespace sg::sgformer
