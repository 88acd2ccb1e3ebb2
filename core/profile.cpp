#include "core/profile.h"

#include <spdlog/spdlog.h>

#include <atomic>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "core/error.h"

namespace sg::profile {
namespace {

struct Timed {
  const char* name;
  Flops flops;
  double bytes;
  bool slow;
  std::unique_ptr<Event> begin, end;
};

// Operations are issued by one thread; the loader's threads issue none.
std::atomic<bool> g_running{false};
Device g_device;
std::vector<Timed> g_timed;
OpScope* g_innermost = nullptr;

std::unique_ptr<Event> now() {
  auto event = backend(g_device.type).event(g_device);
  event->record(current_stream(g_device));
  return event;
}

}  // namespace

void start(Device device) {
  g_timed.clear();
  g_device = device;
  g_running = true;
}

std::map<std::string, Row> take() {
  backend(g_device.type).synchronize(current_stream(g_device));
  std::map<std::string, Row> rows;
  for (const Timed& t : std::exchange(g_timed, {})) {
    Row& row = rows[t.name];
    ++row.calls;
    row.seconds += t.end->seconds_since(*t.begin);
    row.flops += t.flops.count;
    row.macs += t.flops.macs;
    row.bytes += t.bytes;
    row.slow_calls += t.slow;
  }
  return rows;
}

std::map<std::string, Row> stop() {
  g_running = false;
  return take();
}

bool running() { return g_running.load(std::memory_order_relaxed); }

OpScope::OpScope(const char* name, Flops flops, double bytes)
    : name_(running() ? name : nullptr), flops_(flops), bytes_(bytes) {
  if (!name_) return;
  begin_ = now();
  outer_ = std::exchange(g_innermost, this);
}

OpScope::~OpScope() {
  if (!name_) return;
  g_innermost = outer_;
  try {
    g_timed.push_back({name_, flops_, bytes_, slow_, std::move(begin_), now()});
  } catch (const Error&) {  // of a device that failed: the next call that waits for it says so
  }
}

void add_bytes(double bytes) {
  if (g_innermost) g_innermost->bytes_ += bytes;
}

void slow_path(const char* op, const char* way, double extra_bytes,
               const std::function<std::string()>& example) {
  add_bytes(extra_bytes);
  if (g_innermost) g_innermost->slow_ = true;
  static std::mutex& mutex = *new std::mutex;
  static auto& logged = *new std::set<std::pair<std::string, std::string>>;
  const std::lock_guard lock(mutex);
  if (logged.emplace(op, way).second) spdlog::info("{}: {}; first for {}", op, way, example());
}

}  // namespace sg::profile
