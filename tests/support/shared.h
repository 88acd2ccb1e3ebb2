// Golden files and data that lie beside the repository.
#pragma once
#include <filesystem>

namespace sg::test {

// SG_SHARED_DIR/<relative>; when it is not there, says so loudly and gives an empty path: the
// caller returns, and the test counts as passed without having tested.
std::filesystem::path shared(const char* relative);

}  // namespace sg::test
