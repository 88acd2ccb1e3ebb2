// What a GPU says of the communication that it does: which operation it has begun and not ended,
// and how long they took. Kernels say it, so that it is known of the nodes of a CUDA graph too,
// where events cannot be timed and the host sees nothing.
#pragma once
#include <cstdint>

#include "core/device.h"

namespace sg::dist {

// In pinned memory: the device writes it, the host reads it at any time. Times are nanoseconds.
struct Progress {
  // Operations so far << 16 | the index of the last one's name: one store, so that the host never
  // sees half of it.
  uint64_t begun, ended;
  uint64_t begin_time, end_time, join_time;  // of the last, by the device's clock
  uint64_t busy, exposed;                    // so far; as in CommunicationTimes
};

// In order of the stream on which operations run: around each.
void mark_begin(Stream& stream, Progress* progress, uint16_t name);
void mark_end(Stream& stream, Progress* progress);
// In order of the stream that computes: before and after it waits for them.
void mark_join(Stream& stream, Progress* progress);
void mark_joined(Stream& stream, Progress* progress);

}  // namespace sg::dist
