// How much memory this process can still get.
#pragma once
#include <cstddef>

namespace sg {

// Bytes: the least of what the machine has left (MemAvailable), what the limit of the process's
// control group leaves, and what its limit on addresses (ulimit -v) leaves.
size_t available_memory();

}  // namespace sg
