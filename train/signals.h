// SIGTERM, SIGINT and SIGUSR1 ask a run to save and end.
#pragma once
#include <signal.h>

#include <atomic>
#include <thread>

namespace sg::train {

// While it lives, the first of the signals is only noted; a second one ends the program at once
// with 128 + its number. A closed standard output is no reason to end: SIGPIPE is ignored.
//
// A thread of its own takes the signals, and this thread and those that it starts never see them:
// code that oneDNN generates for products keeps addresses below the stack pointer, where a
// handler's frame destroys them, and the product then writes anywhere (oneDNN 2.6.3). So make one
// before there are other threads.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

 private:
  sigset_t mask_before_;
  std::atomic<bool> ended_ = false;
  std::thread taker_;
};

// The signal that was noted, or 0.
int stop_signal();

}  // namespace sg::train
