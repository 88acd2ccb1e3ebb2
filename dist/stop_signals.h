// Signals by which a run is asked to save and end.
#pragma once
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>

namespace sg::dist {

// The launcher passes them on to the ranks.
inline constexpr int kStopSignals[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2};

// The first request is to save and end, a second one to end at once. One request may come as
// several signals: timeout(1) signals its child and then the group that it is in, schedulers signal
// launchers, which pass it on, and ranks alike. So what follows within kOneRequest is the same one.
class StopRequests {
 public:
  static constexpr std::chrono::seconds kOneRequest{2};
  enum class Request { first, same, second };

  // What a signal that came is. Calls nothing but what a signal handler may.
  Request next() {
    const int64_t now = std::chrono::steady_clock::now().time_since_epoch().count();
    int64_t first = 0;
    if (first_.compare_exchange_strong(first, now)) return Request::first;
    const std::chrono::steady_clock::duration after(now - first);
    return after < kOneRequest ? Request::same : Request::second;
  }
  void reset() { first_ = 0; }

 private:
  std::atomic<int64_t> first_ = 0;  // when it came; 0: not yet
};

}  // namespace sg::dist
