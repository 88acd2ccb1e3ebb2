#include "tests/support/shared.h"

#include <cstdio>

namespace sg::test {

std::filesystem::path shared(const char* relative) {
  const std::filesystem::path path = std::filesystem::path(SG_SHARED_DIR) / relative;
  if (std::filesystem::exists(path)) return path;
  std::fprintf(stderr, "\n*** NOT TESTED: %s is not there ***\n\n", path.c_str());
  return {};
}

}  // namespace sg::test
