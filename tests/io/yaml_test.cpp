#include "io/yaml.h"

#include <doctest/doctest.h>

#include "tests/support/files.h"

using namespace sg;
using namespace sg::test;

namespace {

nlohmann::json parsed(const std::string& text) {
  return parse_config(text, "c.yaml", ExitCode::usage);
}

std::string refused(const std::string& text) {
  return error_of(ExitCode::usage, [&] { parsed(text); });
}

}  // namespace

TEST_CASE("yaml: what is not quoted has a type, as timm's args.yaml is written") {
  CHECK(
      parsed("# a comment\naa: rand-m9-mstd0.5-inc1\namp: true\nbatch_size: 128\nclip_grad: null\n"
             "lr: 0.001\nmin_lr: 1.0e-05\nopt_eps: 1e-8\noutput: ''\nscale:\n- 0.08\n- 1.0\n"
             "ratio: [0.75, 1.25]\nmodel_kwargs: {}\nseed: 010\nempty:\nquoted: '12'\nno: no\n") ==
      nlohmann::json{{"aa", "rand-m9-mstd0.5-inc1"},
                     {"amp", true},
                     {"batch_size", 128},
                     {"clip_grad", nullptr},
                     {"lr", 0.001},
                     {"min_lr", 1e-5},
                     {"opt_eps", 1e-8},
                     {"output", ""},
                     {"scale", {0.08, 1.0}},
                     {"ratio", {0.75, 1.25}},
                     {"model_kwargs", nlohmann::json::object()},
                     {"seed", 10},
                     {"empty", nullptr},
                     {"quoted", "12"},
                     {"no", "no"}});
  CHECK(parsed("a: {b: [1, {c: 2}]}")["a"]["b"][1]["c"] == 2);
  CHECK(parsed("lr: .inf")["lr"] == ".inf");  // no number, so the option refuses it
  CHECK(parsed("") == nullptr);
}

TEST_CASE("yaml: what begins with a brace is JSON") {
  CHECK(parsed("\n {\"a\": 1}")["a"] == 1);
  CHECK(contains(refused("{a: 1}"), "c.yaml: not valid JSON"));
}

TEST_CASE("yaml: errors say the line") {
  CHECK(contains(refused("a: 1\nb: [1, 2\nc: 3\n"), "c.yaml: line 3"));
  CHECK(contains(refused("a: 1\n  b: 2\n"), "c.yaml: line 2, column 4: not valid YAML"));
  CHECK(contains(refused("a: 1\nb: 2\na: 3\n"), "c.yaml: line 3: the key 'a' occurs twice"));
  CHECK(contains(refused("a: 1\n---\nb: 2\n"), "a second document begins"));
  CHECK(contains(refused("a: 1\nb: !!python/object:x 2\n"), "line 2: a tag"));
  CHECK(contains(refused("a: 1\n? [1, 2]\n: 3\n"), "a key that is no text"));
  CHECK(contains(refused("a: \xff\n"), "UTF-8"));
}

TEST_CASE("yaml: a short text never means a huge document") {
  CHECK(contains(refused("a: &x [1]\nb: *x\n"), "line 2: an alias (*name); write its value out"));
  std::string bomb = "a0: &a0 [1, 1]\n";
  for (int i = 1; i < 40; ++i) bomb += fmt::format("a{0}: &a{0} [*a{1}, *a{1}]\n", i, i - 1);
  CHECK(contains(refused(bomb), "an alias"));
  CHECK(contains(refused("a: " + std::string(1000, '[')), "more than 64 levels"));
  std::string nested;
  for (int i = 0; i < 100; ++i) nested += std::string(size_t(i), ' ') + "a:\n";
  CHECK(contains(refused(nested), "more than 64 levels"));
  CHECK(contains(refused(std::string(1 << 17, ' ')), "at most 65536 bytes"));
}
