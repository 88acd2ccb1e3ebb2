// Kernel launches with checked errors.
#pragma once
#include <cuda_runtime.h>

#include <type_traits>

#include "core/cuda/runtime.h"
#include "core/device.h"

namespace sg::cuda {

// Shared memory of a size given at launch, as elements of T.
template <class T>
__device__ __forceinline__ T* dynamic_shared() {
  extern __shared__ __align__(16) unsigned char sg_dynamic_shared[];
  return reinterpret_cast<T*>(sg_dynamic_shared);
}

inline constexpr int kBuiltFor[] = {__CUDA_ARCH_LIST__};

// Throws what check_launch() does, naming the kernel and its sizes. An empty grid is no work.
template <class... P, class... A>
void launch(Stream& stream, const Launch& l, void (*kernel)(P...), A... args) {
  static_assert((std::is_trivially_copyable_v<P> && ...), "kernels take plain values");
  if (l.grid.x == 0 || l.grid.y == 0 || l.grid.z == 0) return;
  // More than 48 KiB of shared memory must be asked for; arrays of set size, which are not known
  // here, count too.
  if (l.shared > (32u << 10))
    check_launch(allow_shared(stream.device, reinterpret_cast<const void*>(kernel), l.shared), l,
                 kBuiltFor);
  cudaLaunchConfig_t config{};
  config.gridDim = l.grid, config.blockDim = l.block, config.dynamicSmemBytes = l.shared;
  config.stream = static_cast<cudaStream_t>(stream.handle);
  check_launch(cudaLaunchKernelEx(&config, kernel, P(args)...), l, kBuiltFor);
}

}  // namespace sg::cuda
