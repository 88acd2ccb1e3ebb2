// The device's clock.
#pragma once
#include <cstdint>

namespace sg::cuda {

// Nanoseconds; the same for all blocks and kernels of a device. Ticks of 32 ns to 1 us.
__device__ __forceinline__ uint64_t global_timer() {
  uint64_t t;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t));
  return t;
}

}  // namespace sg::cuda
