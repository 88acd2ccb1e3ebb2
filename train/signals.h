// SIGTERM, SIGINT and SIGUSR1 ask a run to save and end.
#pragma once

namespace sg::train {

// While it lives, the first of the signals is only noted; a second one ends the program at once
// with 128 + its number. A closed standard output is no reason to end: SIGPIPE is ignored.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;
};

// The signal that was noted, or 0.
int stop_signal();

}  // namespace sg::train
