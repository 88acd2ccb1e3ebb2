#include "core/cpu/memory.h"

#include <memory>

#include "tests/core/machine.h"

using namespace sg;
using namespace sg::test;

namespace {

void put_version_2(const Machine& m, const std::string& group, size_t most, size_t used,
                   size_t cached) {
  const std::string folder = "sys/fs/cgroup" + group;
  m.file(folder + "/memory.max", fmt::format("{}\n", most));
  m.file(folder + "/memory.current", fmt::format("{}\n", used));
  m.file(folder + "/memory.stat", fmt::format("anon 1\ninactive_file {}\n", cached));
}

}  // namespace

TEST_CASE("available memory: what the machine has left, without groups") {
  const Machine m;
  m.file("proc/meminfo", "MemTotal: 9000 kB\nMemAvailable: 5000 kB\n");
  CHECK(available_memory(m.path()) == 5000 * 1024);
}

TEST_CASE("resident memory: grows by what is written, not by what is reserved") {
  constexpr size_t kBytes = size_t{64} << 20, kOthers = size_t{16} << 20;
  const size_t before = resident_memory();
  const std::unique_ptr<char[]> memory(new char[kBytes]);
  CHECK(resident_memory() < before + kOthers);
  for (size_t i = 0; i < kBytes; i += 512) static_cast<volatile char*>(memory.get())[i] = 1;
  CHECK(resident_memory() > before + kBytes - kOthers);
}

TEST_CASE("available memory: the least of nested groups of version 2") {
  const Machine m;
  m.file("proc/meminfo", "MemAvailable: 5000 kB\n");
  m.mounts(kVersion2);
  m.groups("0::/jobs/7\n");
  put_version_2(m, "/jobs/7", 1'000'000, 400'000, 100'000);
  CHECK(available_memory(m.path()) == 700'000);
  put_version_2(m, "/jobs", 900'000, 800'000, 0);
  CHECK(available_memory(m.path()) == 100'000);
  m.file("sys/fs/cgroup/jobs/memory.max", "max\n");
  CHECK(available_memory(m.path()) == 700'000);
}

TEST_CASE("available memory: groups of version 1, outside a container and in one") {
  const Machine m;
  m.file("proc/meminfo", "MemAvailable: 5000 kB\n");
  const auto limit = [&](const std::string& folder, const char* most) {
    m.file(folder + "memory.limit_in_bytes", most);
    m.file(folder + "memory.usage_in_bytes", "500000\n");
    m.file(folder + "memory.stat", "inactive_file 1\ntotal_inactive_file 200000\n");
  };
  m.mounts("40 20 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
  m.groups("5:memory:/a/b\n4:cpu:/c\n");
  limit("sys/fs/cgroup/memory/a/b/", "9223372036854771712\n");  // none
  CHECK(available_memory(m.path()) == 5000 * 1024);
  limit("sys/fs/cgroup/memory/a/", "1000000\n");
  CHECK(available_memory(m.path()) == 700'000);

  m.mounts("40 20 0:30 /docker/f00 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
  m.groups("5:memory:/docker/f00\n");
  limit("sys/fs/cgroup/memory/", "800000\n");
  CHECK(available_memory(m.path()) == 500'000);
}
