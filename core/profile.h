// Time, arithmetic and memory traffic per operation, kept only while a Profile is running.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "core/backend.h"

namespace sg::profile {

// Floating-point operations. Those of matmuls and convolutions are multiply-adds, which the counts
// of papers are made of.
struct Flops {
  Flops(double count, double macs = 0) : count(count), macs(macs) {}
  double count;  // a multiply-add is two
  double macs;   // multiply-adds among them
};
inline Flops multiply_adds(double macs) { return {2 * macs, macs}; }

struct Row {
  int64_t calls = 0;
  double seconds = 0;
  double flops = 0, macs = 0;  // see Flops
  double bytes = 0;            // bytes that it read and wrote at least, on the path that it took
  int64_t slow_calls = 0;      // of `calls`, those that took a slow path
};

// Forgets earlier rows. On a device with a queue of its own, times are those of its work.
void start(Device device = {});
// Rows by operation, e.g. "layer_norm.bwd": of what was issued since start(), or since the take()
// before. stop() is the last one.
std::map<std::string, Row> take();
std::map<std::string, Row> stop();
bool running();

// Lives as long as the operation it times, and states what the operation costs: sgbench --ops and
// the multiply-adds of layers (nn/trace.h) follow from it.
class OpScope {
 public:
  OpScope(const char* name, Flops flops, double bytes);
  ~OpScope();
  OpScope(const OpScope&) = delete;
  OpScope& operator=(const OpScope&) = delete;

 private:
  friend void add_bytes(double);
  friend void slow_path(const char*, const char*, double, const std::function<std::string()>&);
  const char* name_;  // null when no profile runs
  Flops flops_;
  double bytes_;
  bool slow_ = false;
  std::unique_ptr<Event> begin_;
  OpScope* outer_ = nullptr;
};

// For kernels whose passes over memory depend on shapes. The innermost running scope, if there is
// one, counts so many bytes more than its operation said.
void add_bytes(double bytes);
// The same where a shape misses the fast path of an operation: the scope counts as slow, and the
// log says so once for each `op` and `way`, with what `example` returns, which is not called again.
//   slow_path("argsort", "passes over memory for maps of more than 4096 tokens", bytes, shape);
void slow_path(const char* op, const char* way, double extra_bytes,
               const std::function<std::string()>& example);

}  // namespace sg::profile
