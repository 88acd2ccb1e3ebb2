// How many cores this process may use: so many threads compute unless OMP_NUM_THREADS or a flag
// says.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace sg {

struct Cores {
  int usable;         // at least 1
  int of;             // that the machine has
  std::string limit;  // what makes them fewer: "affinity mask", "cgroup quota", "ulimit -v"; or ""
};

// Address space, in bytes, that the libraries and a small model take, and that each thread takes
// for its stack and its arena. Where it is not there while they start, OpenBLAS waits for ever and
// oneDNN ends in a fault.
constexpr uint64_t kAddressSpace = uint64_t(768) << 20, kAddressSpaceOfThread = uint64_t(128) << 20;

// By the affinity mask, by the CPU quotas (rounded up) of the process's control groups, version 1
// and 2, and of those around them, and by the limit of address space. `root` stands before /proc
// and /sys/fs/cgroup, for tests.
Cores usable_cores(const std::filesystem::path& root = "/");

// The numbers of the cores in the affinity mask, in order; empty where it cannot be read.
std::vector<int> cores_of_mask();

// "2 of 64 cores: cgroup quota" where the default number of threads is less for that, and in use;
// else "".
std::string limit_of_threads();

}  // namespace sg
