#include "io/json.h"

#include "tests/support/files.h"

using namespace sg;
using namespace sg::test;

TEST_CASE("JSON is parsed, its tricks are refused") {
  CHECK(parse_json(R"({"a": [1, {"a": 2}], "b": {"a": 3}})", "x", ExitCode::data)["b"]["a"] == 3);
  const auto error = [](const std::string& text) {
    return error_of(ExitCode::data, [&] { parse_json(text, "args.json", ExitCode::data); });
  };
  CHECK(contains(error(R"({"a":{"b":1,"c":2,"b":3}})"), "args.json: JSON key 'b' occurs twice"));
  CHECK(contains(error("{"), "not valid JSON"));
  CHECK(contains(error(""), "not valid JSON"));
  CHECK(contains(error("{} {}"), "not valid JSON"));
  CHECK(contains(error(std::string("{}\0", 3)), "zero byte"));
  CHECK(contains(error("\"\xff\""), "not valid JSON"));
  CHECK(contains(error("1e999"), "not valid JSON"));
  CHECK(contains(error(std::string(100'000, '[')), "nests more than 64 levels"));
  CHECK(contains(error("// why\n{}"), "not valid JSON"));
  CHECK(parse_json("// why\n{}", "x", ExitCode::data, true).empty());
}
