// Starting kernels in the emulation.
#pragma once
#include <string>
#include <tuple>
#include <type_traits>

#include "core/device.h"
#include "core/error.h"
#include "tests/emulation/emulator.h"

namespace sg::cuda {

template <class T>
T* dynamic_shared() {
  return static_cast<T*>(emulation::dynamic_shared_memory());
}

struct Launch {
  const char* name;
  dim3 grid, block;
  size_t shared = 0;
};

template <class... P, class... A>
void launch(Stream& stream, const Launch& l, void (*kernel)(P...), A... args) {
  static_assert((std::is_trivially_copyable_v<P> && ...), "kernels take plain values");
  if (l.grid.x == 0 || l.grid.y == 0 || l.grid.z == 0) return;
  emulation::enqueue(stream, [l, kernel, values = std::tuple<P...>(P(args)...)] {
    emulation::run_grid(l.name, l.grid, l.block, l.shared, [&] { std::apply(kernel, values); });
  });
}

}  // namespace sg::cuda
