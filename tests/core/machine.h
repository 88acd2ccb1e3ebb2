// A machine of files, in place of this one's.
#pragma once
#include "tests/support/files.h"

namespace sg::test {

// A machine's /proc and /sys/fs/cgroup.
struct Machine : TemporaryFolder {
  void file(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories((*this / name).parent_path());
    put(*this / name, text);
  }
  void mounts(const std::string& lines) const { file("proc/self/mountinfo", lines); }
  void groups(const std::string& lines) const { file("proc/self/cgroup", lines); }
};

constexpr const char* kVersion2 = "30 20 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n";

}  // namespace sg::test
