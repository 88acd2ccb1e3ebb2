#include "core/cpu/control_groups.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>

namespace sg {
namespace fs = std::filesystem;
namespace {

bool lists(std::string_view names, std::string_view name) {  // "rw,cpu,cpuacct" lists cpu
  const std::string all = "," + std::string(names) + ",";
  return all.find("," + std::string(name) + ",") != std::string::npos;
}

// Where control groups are mounted, and which of theirs is mounted there.
struct Mount {
  fs::path at, shows;
  bool version_2;
};

std::vector<Mount> mounts(std::string_view controller, const fs::path& root) {
  std::vector<Mount> result;
  std::ifstream file(root / "proc/self/mountinfo");
  // 36 35 98:0 /shows /at rw,relatime shared:1 - cgroup cgroup rw,cpu,cpuacct
  for (std::string line; std::getline(file, line);) {
    std::istringstream in(line);
    const std::vector<std::string> words{std::istream_iterator<std::string>(in),
                                         std::istream_iterator<std::string>()};
    const auto dash = std::ranges::find(words, "-");
    if (words.size() < 7 || words.end() - dash < 4) continue;
    const bool v2 = dash[1] == "cgroup2";
    if (v2 || (dash[1] == "cgroup" && lists(dash[3], controller)))
      result.push_back({words[4], words[3], v2});
  }
  return result;
}

// The process's group in one hierarchy, where `group` is its path, and those around it.
void add_groups(const fs::path& root, const Mount& mount, const std::string& group,
                std::vector<fs::path>& groups) {
  // In a container the mount may show a part of the tree: its paths then begin with that part.
  fs::path inside = fs::path(group).lexically_relative(mount.shows);
  if (inside.empty() || *inside.begin() == "..") inside = ".";
  const fs::path top = root / mount.at.relative_path();
  groups.push_back(top);
  fs::path at = top;
  for (const fs::path& name : inside)
    if (name != ".") groups.push_back(at /= name);
}

}  // namespace

std::vector<fs::path> control_groups(std::string_view controller, const fs::path& root) {
  std::vector<fs::path> groups;
  const std::vector<Mount> all = mounts(controller, root);
  std::ifstream file(root / "proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {  // "4:cpu,cpuacct:/a/b", "0::/a/b"
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool v2 = controllers.empty();
    if (!v2 && !lists(controllers, controller)) continue;
    for (const Mount& mount : all)
      if (mount.version_2 == v2) add_groups(root, mount, line.substr(second + 1), groups);
  }
  return groups;
}

}  // namespace sg
