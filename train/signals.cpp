#include "train/signals.h"

#include <unistd.h>

#include <atomic>
#include <cstring>

#include "dist/stop_signals.h"

namespace sg::train {
namespace {

std::atomic<int> noted = 0;
std::atomic<bool> nothing_to_save = false;
dist::StopRequests requests;

// Calls nothing but what a signal handler may.
void note(int signal) {
  if (nothing_to_save) {
    const char digits[] = {char('0' + signal / 10), char('0' + signal % 10), 0};
    for (const char* text : {"signal ", digits + (signal < 10),
                             ": ended before the first step, and nothing is lost\n"})
      (void)!::write(STDERR_FILENO, text, std::strlen(text));
    ::_exit(128 + signal);
  }
  noted = signal;
  if (requests.next(signal) == dist::StopRequests::Request::second) ::_exit(128 + signal);
}

}  // namespace

StopSignals::StopSignals(Begin begin) {
  noted = 0;
  requests.reset();
  nothing_to_save = begin == Begin::nothing_to_save;
  sigset_t set;
  ::sigemptyset(&set);
  for (int s : dist::kStopSignals) {
    struct sigaction before {};
    ::sigaction(s, nullptr, &before);
    if (s == SIGHUP && before.sa_handler == SIG_IGN) continue;
    before_.emplace_back(s, before);
    ::sigaddset(&set, s);
  }
  ::pthread_sigmask(SIG_BLOCK, &set, &mask_before_);
  taker_ = std::thread([this, set] {
    while (true) {
      const int s = ::sigwaitinfo(&set, nullptr);
      if (ended_) return;
      if (s > 0) note(s);
    }
  });
  // For threads that were there before.
  struct sigaction action {};
  action.sa_handler = note;
  action.sa_flags = SA_RESTART;
  for (const auto& [s, before] : before_) ::sigaction(s, &action, nullptr);
}

void StopSignals::save_first() { nothing_to_save = false; }

StopSignals::~StopSignals() {
  ended_ = true;
  nothing_to_save = false;
  ::pthread_kill(taker_.native_handle(), dist::kStopSignals[0]);
  taker_.join();
  for (const auto& [s, before] : before_) ::sigaction(s, &before, nullptr);
  ::pthread_sigmask(SIG_SETMASK, &mask_before_, nullptr);
  noted = 0;
}

int stop_signal() { return noted; }

}  // namespace sg::train
