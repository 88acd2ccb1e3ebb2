// How much memory this process has, and can still get.
#pragma once
#include <cstddef>
#include <filesystem>

namespace sg {

// Bytes: the least of what the machine has left (MemAvailable), what the limits of the process's
// control groups and of those around them leave, and what its limit on addresses (ulimit -v)
// leaves. `root` stands before /proc and /sys/fs/cgroup, for tests.
size_t available_memory(const std::filesystem::path& root = "/");

// Bytes that this process has in RAM.
size_t resident_memory();

}  // namespace sg
