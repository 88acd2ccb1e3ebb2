#include "core/cpu/memory.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <optional>
#include <string>

#include "core/cpu/control_groups.h"

namespace sg {
namespace fs = std::filesystem;
namespace {

using Bytes = std::optional<size_t>;

// The number in a file of one; none where there is no such file or no limit ("max").
Bytes number_in(const fs::path& file) {
  std::ifstream in(file);
  size_t value = 0;
  return in >> value ? Bytes(value) : Bytes();
}

// The number after `name` in a file of names and numbers.
Bytes number_after(const fs::path& file, const std::string& name) {
  std::ifstream in(file);
  for (std::string word; in >> word;)
    if (size_t value = 0; word == name && in >> value) return value;
  return {};
}

size_t left(size_t limit, size_t used) { return limit > used ? limit - used : 0; }

// Files that are cached count as used, and give way.
Bytes left_by_group(const fs::path& group, const char* limit, const char* used,
                    const char* cached) {
  const Bytes most = number_in(group / limit), now = number_in(group / used);
  if (!most || !now) return {};
  const size_t files = number_after(group / "memory.stat", cached).value_or(0);
  return left(*most, left(*now, files));
}

size_t left_by_groups(const fs::path& root) {
  size_t least = SIZE_MAX;
  for (const fs::path& group : control_groups("memory", root))
    for (const Bytes& here : {left_by_group(group, "memory.max", "memory.current", "inactive_file"),
                              left_by_group(group, "memory.limit_in_bytes", "memory.usage_in_bytes",
                                            "total_inactive_file")})
      least = std::min(least, here.value_or(SIZE_MAX));
  return least;
}

Bytes left_by_ulimit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return {};
  const size_t pages = number_in("/proc/self/statm").value_or(0);
  return left(size_t(limit.rlim_cur), pages * size_t(::sysconf(_SC_PAGESIZE)));
}

}  // namespace

size_t available_memory(const fs::path& root) {
  const Bytes kib = number_after(root / "proc/meminfo", "MemAvailable:");
  const size_t machine =
      kib ? *kib * 1024 : size_t(::sysconf(_SC_AVPHYS_PAGES)) * size_t(::sysconf(_SC_PAGESIZE));
  return std::min({machine, left_by_groups(root), left_by_ulimit().value_or(SIZE_MAX)});
}

size_t resident_memory() {
  size_t addresses = 0, resident = 0;  // in pages
  std::ifstream("/proc/self/statm") >> addresses >> resident;
  return resident * size_t(::sysconf(_SC_PAGESIZE));
}

}  // namespace sg
