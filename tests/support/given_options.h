// What options mean that args.json gives.
#pragma once
#include "tests/support/files.h"
#include "tests/support/validate.h"

namespace sg::test {

inline const auto kNothing = nlohmann::json::object();

// The published recipe of sgformer_s with what args.json says in its place; and why it is refused.
inline train::Options given(const nlohmann::json& json) {
  train::Options o = setups::default_options("sgformer_s");
  o.data = "somewhere";
  train::apply_json(o, json, "args.json");
  return o;
}
inline std::string refused(const nlohmann::json& json) {
  return error_of(ExitCode::usage, [&] { test::validate(given(json)); });
}

}  // namespace sg::test
