// Runs CUDA kernels on the host, so that their logic is tested where there is no GPU.
//
// Every thread of a block is a fiber on one operating-system thread; barriers switch between them.
// Blocks run one after the other. What is checked:
// - barriers and warp functions that not all threads reach, or that they reach at different places
//   of the code;
// - sizes that a supported GPU does not take;
// - addresses that are no multiple of what is accessed at once (alignment.cpp), which x86 forgives;
// - under AddressSanitizer and ThreadSanitizer, accesses out of bounds and races between the
//   threads of a block (the sanitizers are told of the fibers).
// Threads run in ascending or descending order between two barriers, and asynchronous copies happen
// as late as they may in the one and as early in the other; tests demand the same bits of both:
// that finds missing barriers without a sanitizer. What is not checked: speed, races between
// blocks, shared arrays of set size that are read before they are written, and launch bounds.
#pragma once
#include <cuda_runtime.h>

#include <cstddef>
#include <functional>

#include "core/device.h"

namespace sg::emulation {

// Runs `thread` once for each thread of each block. Throws where threads wait at different
// barriers, or sizes exceed those of a GPU.
void run_grid(const char* kernel, dim3 grid, dim3 block, size_t shared,
              const std::function<void()>& thread);

// Work in order of a stream: run now, or captured where capture() is under way.
void enqueue(const Stream& stream, std::function<void()> work);

// The order in which the threads of a block, and the blocks, take turns.
enum class Order { ascending, descending };
void set_order(Order order);

// Launches are checked and not run, and memory is not touched: for sizes of a real GPU.
void set_dry(bool dry);
bool dry();

// The n-th launch from now on fails (0: none), as a broken GPU would.
void fail_launch(int64_t n);

// For ptx.cuh: every lane of the warp calls it with `bytes` (at most 64) of its own, at the same
// place of the code; afterwards of_lane(i) gives those of lane i until the lane's next exchange.
void exchange(const void* data, size_t bytes, const void* place);
const void* of_lane(int lane);

// Asynchronous copies of 16 bytes (of which `bytes` are copied and the rest zeroed): they happen
// when the thread waits for them, no sooner; in descending order at once.
void defer_copy(void* to, const void* from, size_t bytes);
void commit_copies();
void wait_copies(size_t pending);

void* dynamic_shared_memory();

// Ends the launch with an error that names the kernel.
void fault_here(const char* what);

}  // namespace sg::emulation
