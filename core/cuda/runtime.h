// The CUDA runtime with errors that say what failed. For files of core/cuda and *_cuda.cu.
#pragma once
#include <cuda_runtime.h>

#include <span>

#include "core/device.h"
#include "core/error.h"

namespace sg::cuda {

struct Launch {
  const char* name;  // of the kernel, for messages: "layer_norm.fwd"
  dim3 grid, block;
  size_t shared = 0;  // bytes of dynamic shared memory
};

// Throws ExitCode::failure naming the call and CUDA's reason.
void check_call(cudaError_t status, const char* call);
// The same for the start of a kernel. Throws ExitCode::usage where the program has no code for the
// GPU, naming the GPU and `built_for`: compute capabilities as nvcc has them, 800 and 900.
void check_launch(cudaError_t status, const Launch& launch, std::span<const int> built_for);

// Lets launches of the kernel on the device, which is current, have `bytes` of dynamic shared
// memory. The limit is only ever raised: a captured launch may need the largest one later.
cudaError_t allow_shared(Device device, const void* kernel, size_t bytes);

#define SG_CUDA(call) ::sg::cuda::check_call(call, #call)

}  // namespace sg::cuda
