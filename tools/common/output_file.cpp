#include "tools/common/output_file.h"

#include <sys/stat.h>

#include <algorithm>
#include <optional>
#include <string>

#include "io/file.h"

namespace sg::tools {
namespace fs = std::filesystem;
namespace {

std::optional<std::pair<dev_t, ino_t>> id_of(const fs::path& path) {
  struct stat info;
  if (::stat(path.c_str(), &info) != 0) return {};
  return std::pair(info.st_dev, info.st_ino);
}

}  // namespace

InputFiles::InputFiles(const std::vector<fs::path>& paths) {
  for (const fs::path& path : paths)
    if (const auto id = id_of(path)) ids_.insert(*id);
}

bool InputFiles::contain(const fs::path& path) const {
  const auto id = id_of(path);
  return id && ids_.contains(*id);
}

void check_output(const fs::path& path, const InputFiles& read, IsOwn is_own) {
  std::error_code absent;
  if (const fs::path folder = path.parent_path();
      !folder.empty() && !fs::is_directory(folder, absent))
    fail(ExitCode::usage, "{}: there is no folder {}; create it, or choose another output",
         path.string(), folder.string());
  if (!fs::exists(fs::symlink_status(path, absent))) return;
  if (read.contain(path))
    fail(ExitCode::usage, "{}: is read, and would be written over; choose another output",
         path.string());
  std::string begin;
  const bool regular = fs::is_regular_file(path, absent);
  if (regular) {
    const InputFile file(path, ExitCode::usage);
    begin.resize(std::min<size_t>(file.size(), 4096));
    file.read(0, begin.data(), begin.size());
  }
  if (!regular || !is_own(begin))
    fail(ExitCode::usage,
         "{}: exists, and this program did not write it; move it away, or choose another output",
         path.string());
}

}  // namespace sg::tools
