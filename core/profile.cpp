#include "core/profile.h"

#include <atomic>
#include <utility>
#include <vector>

#include "core/error.h"

namespace sg::profile {
namespace {

struct Timed {
  const char* name;
  double flops, bytes;
  std::unique_ptr<Event> begin, end;
};

// Operations are issued by one thread; the loader's threads issue none.
std::atomic<bool> g_running{false};
Device g_device;
std::vector<Timed> g_timed;

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

std::map<std::string, Row> stop() {
  g_running = false;
  backend(g_device.type).synchronize(current_stream(g_device));
  std::map<std::string, Row> rows;
  for (const Timed& t : std::exchange(g_timed, {})) {
    Row& row = rows[t.name];
    ++row.calls;
    row.seconds += t.end->seconds_since(*t.begin);
    row.flops += t.flops;
    row.bytes += t.bytes;
  }
  return rows;
}

bool running() { return g_running.load(std::memory_order_relaxed); }

Scope::Scope(const char* name, double flops, double bytes)
    : name_(running() ? name : nullptr), flops_(flops), bytes_(bytes) {
  if (name_) begin_ = now();
}

Scope::~Scope() {
  if (!name_) return;
  try {
    g_timed.push_back({name_, flops_, bytes_, std::move(begin_), now()});
  } catch (const Error&) {  // of a device that failed: the next call that waits for it says so
  }
}

}  // namespace sg::profile
