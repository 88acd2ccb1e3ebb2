#include "train/signals.h"

#include <signal.h>
#include <unistd.h>

namespace sg::train {
namespace {

constexpr int kSignals[] = {SIGTERM, SIGINT, SIGUSR1};
volatile sig_atomic_t noted = 0;

void note(int signal) {
  if (noted) ::_exit(128 + signal);
  noted = signal;
}

}  // namespace

StopSignals::StopSignals() {
  noted = 0;
  struct sigaction action {};
  action.sa_handler = note;
  action.sa_flags = SA_RESTART;
  for (int s : kSignals) ::sigaction(s, &action, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
}

StopSignals::~StopSignals() {
  for (int s : kSignals) ::signal(s, SIG_DFL);
  ::signal(SIGPIPE, SIG_DFL);
  noted = 0;
}

int stop_signal() { return noted; }

}  // namespace sg::train
