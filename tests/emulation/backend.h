// Faults of the emulated device.
#pragma once
#include <cstddef>

namespace sg::emulation {

// The device's memory; more is refused as a full GPU refuses it.
void limit_memory(size_t bytes);

}  // namespace sg::emulation
