// A stand-in for the CUDA runtime: GPUs that are told how to behave, on the memory of the host. So
// core/cuda/runtime.cpp runs where there is no GPU, and with it all that stands on it: kernels are
// those of the emulation.
//
// What a stream is given waits there until somebody waits for it, or is done at once; both are
// right on a GPU, so results must be the same. Calls that a GPU forbids while work is recorded
// fail, and end the recording as they do there. A stream that waits for an event of the recording
// belongs to it from then on, and must be waited for before it ends.
#pragma once
#include <cuda_runtime.h>

#include <map>
#include <string>
#include <vector>

namespace sg::test {

struct Gpu {
  std::string name = "GPU";
  int major = 9, minor = 0;
  size_t memory = SIZE_MAX;
  size_t shared = 227 << 10;  // of a block
  std::string uuid = "";      // at most 16 letters
};

struct KernelStart {
  const void* kernel;
  dim3 grid, block;
  size_t shared;
  cudaStream_t stream;
  int value;  // of the first argument, which must be an int
};

struct Cudart {
  std::vector<Gpu> gpus{{}, {}};
  int driver = CUDART_VERSION;
  std::map<std::string, cudaError_t> failing;  // what the next call of a function ends with
  // By what streams are for, in order of StreamRole; see above. In a record, too.
  bool computing_waits = false, copying_waits = false, communicating_waits = false;
  bool stuck = false;  // work that waits is never done, as far as queries know

  std::vector<std::string> calls;  // of functions, in order
  std::vector<KernelStart> starts;
  // Dynamic shared memory that launches of a kernel on a device may have, where it was asked for.
  std::map<std::pair<int, const void*>, size_t> shared_limits;
  int graphs = 0, records = 0, events = 0;  // that exist
  size_t allocations = 0;                   // of the device and pinned, so far

  size_t count(const std::string& call) const;  // how often it is among the calls
};
Cudart& cudart();

}  // namespace sg::test
