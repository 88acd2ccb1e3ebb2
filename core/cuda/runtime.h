// The CUDA runtime with errors that say what failed. For files of core/cuda and *_cuda.cu.
#pragma once
#include <cuda_runtime.h>

#include "core/error.h"

namespace sg::cuda {

// Throws ExitCode::failure naming the call and CUDA's reason.
void check_call(cudaError_t status, const char* call);
// The same for the start of a kernel.
void check_launch(cudaError_t status, const char* kernel, dim3 grid, dim3 block, size_t shared);

#define SG_CUDA(call) ::sg::cuda::check_call(call, #call)

}  // namespace sg::cuda
