// The tests' own main function (tests/support/main.cpp): what shows nothing does not pass.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>

#include "tests/support/skip.h"

using namespace sg::test;

namespace {

// The exit code of this program, run on some of its cases, those below included.
int run_cases(const std::string& cases, const std::string& environment = "") {
  const auto self = std::filesystem::read_symlink("/proc/self/exe").string();
  const int status = std::system(
      fmt::format("env {} {} --no-skip --test-case='{}' >/dev/null 2>&1", environment, self, cases)
          .c_str());
  return WEXITSTATUS(status);
}

}  // namespace

// Run by the cases after them alone.
TEST_CASE("harness sample: passes" * doctest::skip()) { CHECK(true); }
TEST_CASE("harness sample: asserts nothing" * doctest::skip()) {}
TEST_CASE("harness sample: lacks something" * doctest::skip()) { skip("a sample"); }
TEST_CASE("harness sample: fails" * doctest::skip()) { CHECK(false); }
TEST_CASE("harness sample: lacks files" * doctest::skip()) { CHECK(shared("a").empty()); }

TEST_CASE("harness: a case without an assertion fails, and so does a run without cases") {
  CHECK(run_cases("harness sample: passes") == 0);
  CHECK(run_cases("harness sample: asserts nothing") == 1);
  CHECK(run_cases("harness sample: no such case") == 1);
}

TEST_CASE("harness: what was skipped has not passed, and hides no failure") {
  CHECK(run_cases("harness sample: lacks something") == kSkipExitCode);
  CHECK(run_cases("harness sample: lacks something,harness sample: passes") == kSkipExitCode);
  CHECK(run_cases("harness sample: lacks something,harness sample: fails") == 1);
  CHECK(run_cases("harness sample: lacks something,harness sample: asserts nothing") == 1);
  CHECK(run_cases("harness sample: lacks files", "SG_SHARED_DIR=/nonexistent") == kSkipExitCode);
}

TEST_CASE("harness: with SG_REQUIRE_CUDA a program whose device cuda is no GPU does not start") {
  CHECK(run_cases("harness sample: passes", "SG_REQUIRE_CUDA=1") == (emulated() ? 2 : 0));
  CHECK(run_cases("harness sample: passes", "SG_REQUIRE_CUDA=0") == 0);
}
