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
// several signals of one number: timeout(1) signals its child and then the group that it is in,
// schedulers signal launchers, which pass it on, and ranks alike. So the same signal within
// kOneRequest is the same one.
class StopRequests {
 public:
  static constexpr std::chrono::milliseconds kOneRequest{500};
  enum class Request { first, same, second };

  // What a signal that came is. Calls nothing but what a signal handler may.
  Request next(int signal) {
    using std::chrono::nanoseconds;
    const int64_t now = nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
    int64_t first = 0;
    if (first_.compare_exchange_strong(first, now << kSignalBits | signal)) return Request::first;
    const bool same = (first & ((1 << kSignalBits) - 1)) == signal &&
                      nanoseconds(now - (first >> kSignalBits)) < kOneRequest;
    return same ? Request::same : Request::second;
  }
  void reset() { first_ = 0; }

 private:
  static constexpr int kSignalBits = 8;
  std::atomic<int64_t> first_ = 0;  // when it came, in nanoseconds, and its number; 0: not yet
};

}  // namespace sg::dist
