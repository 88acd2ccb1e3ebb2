// Folders that tests read from. Each can be given in the environment, so that test programs also
// run away from where they were built.
#pragma once
#include <filesystem>

namespace sg::test {

// Golden files and data: SG_SHARED_DIR, or what the build was configured with.
std::filesystem::path shared_folder();
// The programs of tools/: SG_BIN_DIR, or the folder of the running test program.
std::filesystem::path program_folder();

}  // namespace sg::test
