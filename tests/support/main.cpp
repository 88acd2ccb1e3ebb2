// The main function of all test programs. Beyond doctest's own, a run fails that can show nothing:
// one without cases, a case without an assertion, and, where SG_REQUIRE_CUDA is set, a program
// whose device cuda is no GPU.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <set>
#include <string>
#include <vector>

#include "core/backend.h"
#include "core/error.h"
#include "tests/support/faults.h"
#include "tests/support/skip.h"

using namespace sg;

namespace {

std::vector<std::string> g_empty_cases;
unsigned g_cases = 0;

struct CountAssertions : doctest::IReporter {
  explicit CountAssertions(const doctest::ContextOptions&) {}
  void test_case_start(const doctest::TestCaseData& c) override {
    name_ = c.m_name;
    skipped_before_ = test::skipped().size();
  }
  void test_case_end(const doctest::CurrentTestCaseStats& c) override {
    if (c.numAssertsCurrentTest == 0 && test::skipped().size() == skipped_before_)
      g_empty_cases.push_back(name_);
  }
  void test_run_end(const doctest::TestRunStats& r) override {
    g_cases = r.numTestCasesPassingFilters;
  }
  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_exception(const doctest::TestCaseException&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
  void test_case_skipped(const doctest::TestCaseData&) override {}

 private:
  std::string name_;
  size_t skipped_before_ = 0;
};
REGISTER_LISTENER("count_assertions", 1, CountAssertions);

// Why the tests of this program say nothing about a GPU; empty where they do.
std::string lacks_gpu() {
  if (test::emulated())
    return "the device cuda is emulated in this program; test_<folder>_gpu run on a GPU";
  try {
    require(test::kCuda);
    return "";
  } catch (const Error& e) {
    return e.what();
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (cuda_required()) {
    if (const std::string reason = lacks_gpu(); !reason.empty()) {
      std::fprintf(stderr, "SG_REQUIRE_CUDA is set: %s\n", reason.c_str());
      return int(ExitCode::usage);
    }
    // It is met. Programs that tests start on the CPU do so to compare.
    ::unsetenv("SG_REQUIRE_CUDA");
  }
  doctest::Context context(argc, argv);
  const int result = context.run();
  if (result != 0 || context.shouldExit()) return result;
  for (const std::string& name : g_empty_cases)
    std::printf("FAILED: %s: no assertion was made\n", name.c_str());
  if (g_cases == 0) std::printf("FAILED: no test case fits the filters\n");
  if (g_cases == 0 || !g_empty_cases.empty()) return 1;
  const std::set<std::string> skipped(test::skipped().begin(), test::skipped().end());
  for (const std::string& line : skipped) std::printf("SKIPPED: %s\n", line.c_str());
  return skipped.empty() ? 0 : test::kSkipExitCode;
}
