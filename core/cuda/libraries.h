// Where CUDA's libraries lie on a machine whose loader does not know them.
#pragma once
#include <string>
#include <vector>

namespace sg::cuda {

// Folders that hold `file` ("libcublasLt.so.13"), the most likely first: toolkits (CUDA_HOME,
// CUDA_PATH, /usr/local/cuda*/lib64), then Python environments (VIRTUAL_ENV, CONDA_PREFIX, that of
// each python3 on PATH, ~/.local, /usr/local, /usr), into which pip installs nvidia/*/lib. `root`
// is put before /usr, for tests.
std::vector<std::string> library_folders(const std::string& file, const std::string& root = "");

}  // namespace sg::cuda
