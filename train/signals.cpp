#include "train/signals.h"

#include <unistd.h>

#include <atomic>

namespace sg::train {
namespace {

constexpr int kSignals[] = {SIGTERM, SIGINT, SIGUSR1};
std::atomic<int> noted = 0;

void note(int signal) {
  if (noted.exchange(signal)) ::_exit(128 + signal);
}

}  // namespace

StopSignals::StopSignals() {
  noted = 0;
  sigset_t set;
  ::sigemptyset(&set);
  for (int s : kSignals) ::sigaddset(&set, s);
  ::pthread_sigmask(SIG_BLOCK, &set, &mask_before_);
  taker_ = std::thread([this, set] {
    for (int s = 0; ::sigwait(&set, &s) == 0 && !ended_;) note(s);
  });
  // For threads that were there before.
  struct sigaction action {};
  action.sa_handler = note;
  action.sa_flags = SA_RESTART;
  for (int s : kSignals) ::sigaction(s, &action, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
}

StopSignals::~StopSignals() {
  ended_ = true;
  ::pthread_kill(taker_.native_handle(), kSignals[0]);
  taker_.join();
  for (int s : kSignals) ::signal(s, SIG_DFL);
  ::signal(SIGPIPE, SIG_DFL);
  ::pthread_sigmask(SIG_SETMASK, &mask_before_, nullptr);
  noted = 0;
}

int stop_signal() { return noted; }

}  // namespace sg::train
