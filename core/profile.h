// Time, arithmetic and memory traffic per operation, kept only while a Profile is running.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "core/backend.h"

namespace sg::profile {

struct Row {
  int64_t calls = 0;
  double seconds = 0;
  double flops = 0;  // floating-point operations, a multiply-add counted as two
  double bytes = 0;  // bytes that the operation must at least read and write
};

// Forgets earlier rows. On a device with a queue of its own, times are those of its work.
void start(Device device = {});
std::map<std::string, Row> stop();  // rows by operation, e.g. "layer_norm.bwd"
bool running();

// Lives as long as the operation it times.
class Scope {
 public:
  Scope(const char* name, double flops, double bytes);
  ~Scope();
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  const char* name_;  // null when no profile runs
  double flops_, bytes_;
  std::unique_ptr<Event> begin_;
};

}  // namespace sg::profile
