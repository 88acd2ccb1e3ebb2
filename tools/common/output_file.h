// A program writes over a file only where an earlier run of it wrote that file.
#pragma once
#include <sys/types.h>

#include <filesystem>
#include <initializer_list>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

namespace sg::tools {

// Whether a file that begins so was written here.
using IsOwn = bool (*)(std::string_view begin);

// The files that a program reads, known by device and inode: so by whatever name.
class InputFiles {
 public:
  InputFiles(const std::vector<std::filesystem::path>& paths);
  InputFiles(std::initializer_list<std::filesystem::path> paths)
      : InputFiles(std::vector<std::filesystem::path>(paths)) {}
  bool contain(const std::filesystem::path& path) const;

 private:
  std::set<std::pair<dev_t, ino_t>> ids_;
};

// Before anything is computed: throws ExitCode::usage where `path` is one of the files that the
// program reads, where something else is there that `is_own` does not know, or where its folder is
// not there.
void check_output(const std::filesystem::path& path, const InputFiles& read, IsOwn is_own);

}  // namespace sg::tools
