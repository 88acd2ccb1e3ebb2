#include "core/cpu/cores.h"

#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <vector>

#include "core/cpu/control_groups.h"

namespace sg {
namespace fs = std::filesystem;
namespace {

// Cores that one control group may use: infinite without a quota.
double quota(const fs::path& group) {
  double used = 0, period = 0;  // stay 0 where there is no number
  if (std::ifstream v2(group / "cpu.max"); v2) {
    v2 >> used >> period;  // "max 100000": none
  } else {
    std::ifstream(group / "cpu.cfs_quota_us") >> used;  // -1: none
    std::ifstream(group / "cpu.cfs_period_us") >> period;
  }
  return used > 0 && period > 0 ? used / period : INFINITY;
}

}  // namespace

std::vector<int> cores_of_mask() {
  for (int size = std::max(int(::sysconf(_SC_NPROCESSORS_CONF)), CPU_SETSIZE);; size *= 2) {
    cpu_set_t* set = CPU_ALLOC(size_t(size));
    const size_t bytes = CPU_ALLOC_SIZE(size_t(size));
    const bool known = set && ::sched_getaffinity(0, bytes, set) == 0;
    std::vector<int> cores;
    for (int core = 0; known && core < size; ++core)
      if (CPU_ISSET_S(size_t(core), bytes, set)) cores.push_back(core);
    CPU_FREE(set);
    if (known || size > 1 << 20) return cores;  // too small a set is an error
  }
}

Cores usable_cores(const fs::path& root) {
  const int all = int(std::max(::sysconf(_SC_NPROCESSORS_ONLN), 1L));
  const int allowed = int(cores_of_mask().size());
  Cores cores{.usable = allowed ? allowed : all, .of = all, .limit = ""};
  if (cores.usable < all) cores.limit = "affinity mask";
  double least = INFINITY;
  for (const fs::path& group : control_groups("cpu", root)) least = std::min(least, quota(group));
  if (least = std::ceil(least); least < cores.usable)
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
