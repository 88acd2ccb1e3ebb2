// The first thread of a warp each: a few words.
#include "dist/cuda/progress.h"

#include "core/cuda/kernel.cuh"
#include "dist/cuda/global_timer.cuh"

namespace sg::dist {
namespace {

using cuda::kWarp;

__global__ void begin_kernel(Progress* p, uint64_t name) {
  if (threadIdx.x != 0) return;
  p->begin_time = cuda::global_timer();
  p->begun = ((p->begun >> 16) + 1) << 16 | name;
}

__global__ void end_kernel(Progress* p) {
  if (threadIdx.x != 0) return;
  p->end_time = cuda::global_timer(), p->busy += p->end_time - p->begin_time;
  p->ended = p->begun;
}

__global__ void join_kernel(Progress* p) {
  if (threadIdx.x == 0) p->join_time = cuda::global_timer();
}

// Nothing was exposed where the last operation had ended before.
__global__ void joined_kernel(Progress* p) {
  if (threadIdx.x == 0 && p->end_time > p->join_time) p->exposed += p->end_time - p->join_time;
}

}  // namespace

void mark_begin(Stream& stream, Progress* progress, uint16_t name) {
  cuda::launch(stream, {"progress.begin", 1, kWarp}, begin_kernel, progress, uint64_t{name});
}
void mark_end(Stream& stream, Progress* progress) {
  cuda::launch(stream, {"progress.end", 1, kWarp}, end_kernel, progress);
}
void mark_join(Stream& stream, Progress* progress) {
  cuda::launch(stream, {"progress.join", 1, kWarp}, join_kernel, progress);
}
void mark_joined(Stream& stream, Progress* progress) {
  cuda::launch(stream, {"progress.joined", 1, kWarp}, joined_kernel, progress);
}

}  // namespace sg::dist
