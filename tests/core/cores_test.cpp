#include "core/cpu/cores.h"

#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>

#include "tests/core/machine.h"
#include "tests/support/process.h"

using namespace sg;
using namespace sg::test;
namespace fs = std::filesystem;

TEST_CASE("cores: without quotas those of the affinity mask") {
  const Cores free = usable_cores(TemporaryFolder().path());
  CHECK(free.of == ::sysconf(_SC_NPROCESSORS_ONLN));
  CHECK(free.usable >= 1);
  CHECK(free.usable <= free.of);
  CHECK(free.limit == (free.usable < free.of ? "affinity mask" : ""));

  cpu_set_t before, one;
  REQUIRE(::sched_getaffinity(0, sizeof before, &before) == 0);
  CPU_ZERO(&one);
  for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; ++cpu)
    if (CPU_ISSET(cpu, &before)) CPU_SET(cpu, &one);
  REQUIRE(::sched_setaffinity(0, sizeof one, &one) == 0);
  const Cores pinned = usable_cores(TemporaryFolder().path());
  ::sched_setaffinity(0, sizeof before, &before);
  CHECK(pinned.usable == 1);
  CHECK(pinned.limit == (pinned.of > 1 ? "affinity mask" : ""));
}

TEST_CASE("cores: a quota of version 2, rounded up") {
  const Machine m;
  m.mounts(kVersion2);
  m.groups("0::/jobs/7\n");
  m.file("sys/fs/cgroup/jobs/7/cpu.max", "50000 100000\n");
  CHECK(usable_cores(m.path()).usable == 1);
  CHECK(usable_cores(m.path()).limit == "cgroup quota");
  m.file("sys/fs/cgroup/jobs/7/cpu.max", "max 100000\n");
  CHECK(usable_cores(m.path()).limit != "cgroup quota");
  // The quota of an enclosing group counts too: the smallest of all.
  m.file("sys/fs/cgroup/jobs/cpu.max", "70000 100000\n");
  CHECK(usable_cores(m.path()).usable == 1);
  CHECK(usable_cores(m.path()).limit == "cgroup quota");
  m.file("sys/fs/cgroup/jobs/7/cpu.max", "99900000 100000\n");
  CHECK(usable_cores(m.path()).usable == 1);
}

TEST_CASE("cores: a quota of version 1, beside other controllers") {
  const Machine m;
  m.mounts(
      "40 20 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
      "41 20 0:31 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
      "42 20 0:32 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
  m.groups("5:memory:/a\n4:cpu,cpuacct:/a/b\n0::/a\n");
  const std::string b = "sys/fs/cgroup/cpu,cpuacct/a/b/";
  m.file(b + "cpu.cfs_period_us", "100000\n");
  m.file(b + "cpu.cfs_quota_us", "-1\n");
  CHECK(usable_cores(m.path()).limit != "cgroup quota");
  m.file(b + "cpu.cfs_quota_us", "20000\n");
  CHECK(usable_cores(m.path()).usable == 1);
  CHECK(usable_cores(m.path()).limit == "cgroup quota");
}

TEST_CASE("cores: in a container, the mount shows the process's own group") {
  const Machine m;
  m.mounts("41 20 0:31 /docker/f00 /sys/fs/cgroup/cpu ro master:9 - cgroup cgroup rw,cpu\n");
  m.file("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  m.file("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "30000\n");
  for (const char* group : {"/docker/f00", "/", "/docker/f00/inner"}) {
    m.groups(fmt::format("4:cpu:{}\n", group));
    CHECK(usable_cores(m.path()).usable == 1);
    CHECK(usable_cores(m.path()).limit == "cgroup quota");
  }
}

TEST_CASE("cores: each thread takes address space") {
  const auto within = [](uint64_t bytes) {
    return wait_for(start_child([&] {
      const rlimit limit{bytes, bytes};
      if (::setrlimit(RLIMIT_AS, &limit) != 0) return 99;
      const Cores cores = usable_cores("/nowhere");
      return cores.limit == "ulimit -v" ? cores.usable : 50 + cores.usable;
    }));
  };
  const int all = usable_cores("/nowhere").usable;
  const auto room = [](int threads) {
    return kAddressSpace + uint64_t(threads) * kAddressSpaceOfThread;
  };
  CHECK(within(room(all)) == 50 + all);
  if (all > 1) CHECK(within(room(all) - 1) == all - 1);
}

TEST_CASE("cores: threads that wait sleep soon, unless the environment says otherwise") {
  // This program too was started again with it, before libgomp looked.
  CHECK((std::getenv("GOMP_SPINCOUNT") || std::getenv("OMP_WAIT_POLICY")));
  // And has its name still, cut as the system does.
  std::string name;
  std::getline(std::ifstream("/proc/self/comm"), name);
  CHECK(name == fs::read_symlink("/proc/self/exe").filename().string().substr(0, 15));
}

TEST_CASE("cores: this process was not started a second time" * doctest::skip()) {
  CHECK_FALSE(std::getenv("GOMP_SPINCOUNT"));  // of the case below
}

TEST_CASE("cores: no second start by a variable, nor where a loader was called by name") {
  const std::string self = fs::read_symlink("/proc/self/exe").string();
  const auto passes = [&](const std::string& before) {
    return std::system(fmt::format("env -u GOMP_SPINCOUNT -u OMP_WAIT_POLICY {} {} --no-skip "
                                   "--test-case='cores: this process was not*' > /dev/null",
                                   before, self)
                           .c_str()) == 0;
  };
  CHECK_FALSE(passes(""));
  CHECK(passes("SG_NO_SECOND_START=1"));
  if (const char* loader = "/lib64/ld-linux-x86-64.so.2"; fs::exists(loader)) CHECK(passes(loader));
}
