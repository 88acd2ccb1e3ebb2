#pragma once
#include <time.h>

namespace sg::benchmark {

// CPU time of this thread: other programs on the machine hardly count.
inline double thread_cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

}  // namespace sg::benchmark
