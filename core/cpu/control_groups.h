// The control groups (cgroups) of this process, which limit its CPU time and memory.
#pragma once
#include <filesystem>
#include <string_view>
#include <vector>

namespace sg {

// Folders of the groups that `controller` ("cpu", "memory") may limit: of each mounted hierarchy,
// version 1 and 2, the process's group and those around it that are visible, in a container the
// mounted ones. `root` stands before /proc and /sys/fs/cgroup, for tests.
std::vector<std::filesystem::path> control_groups(std::string_view controller,
                                                  const std::filesystem::path& root = "/");

}  // namespace sg
