#include "tests/support/skip.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "core/backend.h"
#include "tests/support/faults.h"
#include "tests/support/paths.h"

namespace sg::test {
namespace {
std::vector<std::string> g_skipped;
}

void skip(const std::string& reason) {
  const char* name = doctest::getContextOptions()->currentTest->m_name;
  g_skipped.push_back(fmt::format("{}: {}", name, reason));
}

const std::vector<std::string>& skipped() { return g_skipped; }

std::filesystem::path shared(const std::string& relative) {
  const std::filesystem::path path = shared_folder() / relative;
  if (std::filesystem::exists(path)) return path;
  skip(fmt::format("{} is not there; SG_SHARED_DIR names the folder", path.string()));
  return {};
}

bool have_cuda() {
  if (available(kCuda)) return true;
  skip("there is no device cuda");
  return false;
}

bool emulated() { return cuda_is_emulated; }

bool have_emulation() {
  if (emulated()) return true;
  skip("the device cuda is not emulated");
  return false;
}

bool have_gpu() {
  if (!emulated()) return have_cuda();
  skip("there is no GPU: the device cuda is emulated");
  return false;
}

}  // namespace sg::test
