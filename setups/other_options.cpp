#include "setups/other_options.h"

#include <algorithm>

namespace sg::setups {

void refuse_options(const train::Options& options, const train::Options& usual,
                    std::span<const OtherOption> others, const char* task) {
  const nlohmann::json given = to_json(options), expected = to_json(usual);
  for (const OtherOption& other : others) {
    std::string key = other.name;
    std::ranges::replace(key, '-', '_');
    if (given.value(key, nlohmann::json()) != expected.value(key, nlohmann::json()))
      fail(ExitCode::usage, "--{}: of --task {}; {}", other.name, task, other.advice);
  }
}

}  // namespace sg::setups
