#include "tests/support/paths.h"

#include <cstdlib>

namespace sg::test {
namespace fs = std::filesystem;

fs::path shared_folder() {
  const char* given = std::getenv("SG_SHARED_DIR");
  return given ? given : SG_SHARED_DIR;
}

fs::path program_folder() {
  const char* given = std::getenv("SG_BIN_DIR");
  return given ? fs::path(given) : fs::read_symlink("/proc/self/exe").parent_path();
}

}  // namespace sg::test
