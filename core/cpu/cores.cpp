#include "core/cpu/cores.h"

#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <iterator>
#include <sstream>
#include <vector>

namespace sg {
namespace fs = std::filesystem;
namespace {

// The words of a file's lines; none where it cannot be read.
std::vector<std::vector<std::string>> lines_of(const fs::path& path) {
  std::vector<std::vector<std::string>> result;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    result.emplace_back(std::istream_iterator<std::string>(words),
                        std::istream_iterator<std::string>());
  }
  return result;
}

double number(const std::string& text) {
  double value = NAN;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

// Cores that one control group may use: infinite without a quota.
double quota(const fs::path& group) {
  double used = NAN, period = NAN;
  if (const auto v2 = lines_of(group / "cpu.max"); !v2.empty() && v2[0].size() == 2) {
    used = number(v2[0][0]), period = number(v2[0][1]);  // "max" is no number
  } else {
    const auto of = lines_of(group / "cpu.cfs_quota_us"),
               per = lines_of(group / "cpu.cfs_period_us");
    if (!of.empty() && of[0].size() == 1) used = number(of[0][0]);  // -1: none
    if (!per.empty() && per[0].size() == 1) period = number(per[0][0]);
  }
  return used > 0 && period > 0 ? used / period : INFINITY;
}

// Where the control groups are mounted that limit CPU time, and which of theirs is mounted there.
struct Mount {
  fs::path at, shows;
  bool version_2;
};

std::vector<Mount> mounts(const fs::path& root) {
  std::vector<Mount> result;
  // 36 35 98:0 /shows /at rw,relatime shared:1 - cgroup cgroup rw,cpu,cpuacct
  for (const auto& words : lines_of(root / "proc/self/mountinfo")) {
    const auto dash = std::ranges::find(words, "-");
    if (words.size() < 7 || words.end() - dash < 4) continue;
    const std::string options = "," + dash[3] + ",";
    const bool v2 = dash[1] == "cgroup2";
    if (v2 || (dash[1] == "cgroup" && options.find(",cpu,") != std::string::npos))
      result.push_back({words[4], words[3], v2});
  }
  return result;
}

// The smallest quota from the process's group up to the root, where `group` is its path.
double least_quota(const fs::path& root, const Mount& mount, const std::string& group) {
  // In a container the mount may show a part of the tree: its paths then begin with that part.
  fs::path inside = fs::path(group).lexically_relative(mount.shows);
  if (inside.empty() || *inside.begin() == "..") inside = ".";
  fs::path at = (root / mount.at.relative_path() / inside).lexically_normal();
  const fs::path top = (root / mount.at.relative_path()).lexically_normal();
  double least = quota(top);
  for (; at != top && at.has_relative_path() && at != at.parent_path(); at = at.parent_path())
    least = std::min(least, quota(at));
  return least;
}

double least_quota(const fs::path& root) {
  double least = INFINITY;
  const std::vector<Mount> all = mounts(root);
  std::ifstream file(root / "proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {  // "4:cpu,cpuacct:/a/b", "0::/a/b"
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const bool v2 = controllers == ",,";
    if (!v2 && controllers.find(",cpu,") == std::string::npos) continue;
    for (const Mount& mount : all)
      if (mount.version_2 == v2)
        least = std::min(least, least_quota(root, mount, line.substr(second + 1)));
  }
  return least;
}

int cores_of_mask(int all) {
  for (int size = std::max(all, CPU_SETSIZE);; size *= 2) {
    cpu_set_t* set = CPU_ALLOC(size_t(size));
    const size_t bytes = CPU_ALLOC_SIZE(size_t(size));
    const bool known = set && ::sched_getaffinity(0, bytes, set) == 0;
    const int cores = known ? CPU_COUNT_S(bytes, set) : all;
    CPU_FREE(set);
    if (known || size > 1 << 20) return std::max(cores, 1);  // too small a set is an error
  }
}

}  // namespace

Cores usable_cores(const fs::path& root) {
  const int all = int(std::max(::sysconf(_SC_NPROCESSORS_ONLN), 1L));
  Cores cores{.usable = cores_of_mask(all), .of = all, .limit = ""};
  if (cores.usable < all) cores.limit = "affinity mask";
  if (const double least = std::ceil(least_quota(root)); least < cores.usable)
    cores.usable = std::max(int(least), 1), cores.limit = "cgroup quota";
  rlimit space{};
  if (::getrlimit(RLIMIT_AS, &space) == 0 && space.rlim_cur != RLIM_INFINITY) {
    const uint64_t rest = std::max<uint64_t>(space.rlim_cur, kAddressSpace) - kAddressSpace;
    if (const uint64_t fit = rest / kAddressSpaceOfThread; fit < uint64_t(cores.usable))
      cores.usable = std::max(int(fit), 1), cores.limit = "ulimit -v";
  }
  return cores;
}

}  // namespace sg
