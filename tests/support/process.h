// Child processes and small disks for tests of what happens when things go wrong.
#pragma once
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "core/error.h"

namespace sg::test {

// Starts `f` in a child that exits with the code that f returns. The child has no threads but its
// own, so f runs no parallel loops.
template <class F>
pid_t start_child(F&& f) {
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child != 0) return child;
  int code = 99;
  try {
    code = f();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "child: %s\n", e.what());
  }
  std::fflush(nullptr);
  ::_exit(code);
}

// The exit code of the child, or 128 + the signal that ended it.
inline int wait_for(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

inline std::vector<pid_t> children_of(pid_t parent) {
  const std::string pid = std::to_string(parent);
  std::ifstream file("/proc/" + pid + "/task/" + pid + "/children");
  return {std::istream_iterator<pid_t>(file), {}};
}

inline bool is_running(pid_t pid) {  // a zombie is not
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  const std::string text(std::istreambuf_iterator<char>(file), {});
  const size_t name_end = text.rfind(") ");
  return name_end != text.npos && text[name_end + 2] != 'Z';
}

constexpr int kNoMount = 77;  // exit code of a child that may not mount

// Within a child: a disk of `bytes` over `folder`, seen by this process alone.
inline bool mount_disk(const std::filesystem::path& folder, size_t bytes) {
  const auto uid = ::getuid();
  if (::unshare(CLONE_NEWNS) != 0) {
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
    if (FILE* map = std::fopen("/proc/self/uid_map", "w")) {
      std::fprintf(map, "0 %u 1", uid);
      std::fclose(map);
    }
  }
  const std::string size = "size=" + std::to_string(bytes);
  return ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         ::mount("tmpfs", folder.c_str(), "tmpfs", 0, size.c_str()) == 0;
}

inline bool make_read_only(const std::filesystem::path& folder) {
  return ::mount(nullptr, folder.c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr) == 0;
}

}  // namespace sg::test
