#include "core/cuda/libraries.h"

#include <glob.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <sstream>

namespace sg::cuda {
namespace {

std::string environment(const char* name) {
  const char* const value = std::getenv(name);
  return value ? value : "";
}

std::vector<std::string> matches(const std::string& pattern) {
  glob_t found{};
  std::vector<std::string> paths;
  if (glob(pattern.c_str(), 0, nullptr, &found) == 0)
    paths.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  globfree(&found);
  return paths;
}

// Prefixes of Python environments. A python3 on PATH is often a link; its own folder tells the
// environment, what it points to does not.
std::vector<std::string> python_prefixes(const std::string& root) {
  std::vector<std::string> prefixes{environment("VIRTUAL_ENV"), environment("CONDA_PREFIX")};
  std::istringstream path(environment("PATH"));
  for (std::string folder; std::getline(path, folder, ':');) {
    std::error_code ignored;
    if (std::filesystem::exists(folder + "/python3", ignored)) prefixes.push_back(folder + "/..");
  }
  if (const std::string home = environment("HOME"); !home.empty())
    prefixes.push_back(home + "/.local");
  prefixes.insert(prefixes.end(), {root + "/usr/local", root + "/usr"});
  std::erase(prefixes, "");
  return prefixes;
}

}  // namespace

std::vector<std::string> library_folders(const std::string& file, const std::string& root) {
  std::vector<std::string> patterns;
  for (const char* name : {"CUDA_HOME", "CUDA_PATH"})
    if (const std::string toolkit = environment(name); !toolkit.empty())
      patterns.push_back(toolkit + "/lib64/");
  patterns.push_back(root + "/usr/local/cuda*/lib64/");
  for (const std::string& prefix : python_prefixes(root))
    for (const char* below : {"/lib/", "/lib/python3*/*-packages/nvidia/*/lib/"})
      patterns.push_back(prefix + below);

  std::vector<std::string> folders;
  for (const std::string& pattern : patterns)
    for (const std::string& path : matches(pattern + file)) {
      const std::string folder = path.substr(0, path.size() - file.size() - 1);
      if (std::find(folders.begin(), folders.end(), folder) == folders.end())
        folders.push_back(folder);
    }
  return folders;
}

}  // namespace sg::cuda
