#include "core/profile.h"

#include <atomic>

namespace sg::profile {
namespace {
// Operations are issued by one thread; the loader's threads issue none.
std::atomic<bool> g_running{false};
std::map<std::string, Row> g_rows;
}  // namespace

void start() {
  g_rows.clear();
  g_running = true;
}

std::map<std::string, Row> stop() {
  g_running = false;
  return std::move(g_rows);
}

bool running() { return g_running.load(std::memory_order_relaxed); }

Scope::Scope(const char* name, double flops, double bytes)
    : name_(running() ? name : nullptr), flops_(flops), bytes_(bytes) {
  if (name_) begin_ = std::chrono::steady_clock::now();
}

Scope::~Scope() {
  if (!name_) return;
  Row& row = g_rows[name_];
  ++row.calls;
  row.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  row.flops += flops_;
  row.bytes += bytes_;
}

}  // namespace sg::profile
