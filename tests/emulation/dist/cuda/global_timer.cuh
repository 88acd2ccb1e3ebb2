// The clock of an emulated device: that of the host.
#pragma once
#include <chrono>
#include <cstdint>

namespace sg::cuda {

inline uint64_t global_timer() {
  return uint64_t(
      std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count());
}

}  // namespace sg::cuda
