// Measures a model's speed and memory, whole and by operation.
#pragma once
#include <string>
#include <vector>

#include "core/profile.h"
#include "tools/bench/roofline.h"
#include "tools/bench/workload.h"

namespace sg::benchmark {

enum class BenchMode { train, infer };

struct BenchOptions {
  BenchMode mode = BenchMode::infer;
  int64_t batch = 8;  // images of a step
  int64_t warmup = 2, repeats = 10;
  bool eager = false;    // operations one by one, not captured
  bool ops = false;      // a pass of its own, so that it does not slow the timed repeats
  bool roofline = true;  // measure the machine's, by large copies and matmuls
};

struct BenchOp {
  std::string name;
  profile::Row row;  // of one step
  Limit limit;       // without BenchOptions::roofline nothing
  double roofline_share() const { return limit.seconds / row.seconds; }
};

struct BenchResult {
  double step_seconds = 0;  // median of the repeats
  double cpu_seconds = 0;   // of the process, median of the repeats
  double images_per_second = 0;
  double spread = 0;              // (slowest - fastest) / median
  size_t peak_memory_bytes = 0;   // tensors
  size_t peak_rss_bytes = 0;      // process
  size_t steady_allocations = 0;  // blocks asked of the system after warm-up: should be 0
  Roofline roofline;
  double matmul_flops = 0;      // of is_matmul(), a step
  double roofline_share = 0;    // time of those alone at the roofline over time taken
  std::vector<BenchOp> ops;     // slowest first
  double profiled_seconds = 0;  // of the step that `ops` divides
};

// A step is what training does: forward, loss, backward and update; or inference alone.
BenchResult bench(Workload& work, const BenchOptions& options);

// When backward completes each gradient, as a share of a training step: of the parameters in order
// of the flat buffer, ascending, medians of the repeats. On the CPU.
std::vector<double> gradient_ready_times(Workload& work, const BenchOptions& options);

}  // namespace sg::benchmark
