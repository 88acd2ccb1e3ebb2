// What this machine can do at most, measured: the limits that speeds are compared with.
#pragma once

namespace sg::benchmark {

struct Roofline {
  double flops = 0;  // operations a second of a large float32 matmul
  double bytes = 0;  // bytes read and written a second by a copy that exceeds the caches
};

// Takes about a second, with the threads that kernels use.
Roofline measure_roofline();

}  // namespace sg::benchmark
