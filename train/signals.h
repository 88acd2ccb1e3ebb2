// SIGTERM, SIGINT, SIGHUP, SIGUSR1 and SIGUSR2 ask a run to save and end.
#pragma once
#include <signal.h>

#include <atomic>
#include <thread>
#include <utility>
#include <vector>

namespace sg::train {

// While it lives, the first of the signals is only noted; a second one, as dist/stop_signals.h has
// it, ends the program at once with 128 + its number. SIGHUP remains ignored where it was (nohup).
//
// A thread of its own takes the signals, and this thread and those that it starts never see them:
// code that oneDNN generates for matmuls keeps addresses below the stack pointer, where a
// handler's frame destroys them, and the matmul then writes anywhere (oneDNN 2.6.3). So make one
// before there are other threads.
class StopSignals {
 public:
  // `nothing_to_save`: until save_first() the first one, too, ends the program at once, and says
  // that nothing is lost.
  enum class Begin { save_first, nothing_to_save };
  explicit StopSignals(Begin begin = Begin::save_first);
  ~StopSignals();
  void save_first();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

 private:
  sigset_t mask_before_;
  std::vector<std::pair<int, struct sigaction>> before_;  // of the signals that it takes
  std::atomic<bool> ended_ = false;
  std::thread taker_;
};

// The signal that was noted, or 0.
int stop_signal();

}  // namespace sg::train
