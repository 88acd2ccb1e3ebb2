// Golden files that are one JSON object, and what their checks share.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "io/json.h"
#include "tools/golden/case.h"

namespace sg::golden {

struct JsonCase {
  std::filesystem::path path;
  nlohmann::json value;  // its "module" names the kind
};

// As Check of kinds.h.
using JsonCheck = std::vector<Row>(const JsonCase& c);

struct JsonKind {
  std::string_view module;
  JsonCheck* check;
};
// Null where a kind is not known.
const JsonKind* find_json_kind(std::string_view module);

// A .json whose first bytes name a module; the rest of it is not read.
bool is_json_case(const std::filesystem::path& file);
JsonCase read_json_case(const std::filesystem::path& file);

// The largest difference of two numbers; infinite where there are not as many.
Row compare(std::string name, const std::vector<double>& found, const std::vector<double>& expected,
            double bound);
Row compare(std::string name, const std::string& found, const std::string& expected);
// Those nearest to their bounds first.
std::vector<Row> worst_first(std::vector<Row> rows);

}  // namespace sg::golden
