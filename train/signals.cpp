#include "train/signals.h"

#include <unistd.h>

#include <atomic>
#include <cstring>

#include "dist/launcher.h"

namespace sg::train {
namespace {

std::atomic<int> noted = 0;
std::atomic<bool> nothing_to_save = false;
std::atomic<int> counted = 0;
// Of this process, if it is a rank; else 0. Slurm, for one, signals all processes of a job, and the
// launcher passes the same signal on: in a rank only what the launcher sends is counted.
std::atomic<pid_t> launcher = 0;

// Calls nothing but what a signal handler may.
void note(int signal, pid_t sender) {
  if (nothing_to_save) {
    const char digits[] = {char('0' + signal / 10), char('0' + signal % 10), 0};
    for (const char* text : {"signal ", digits + (signal < 10),
                             ": ended before the first step, and nothing is lost\n"})
      (void)!::write(STDERR_FILENO, text, std::strlen(text));
    ::_exit(128 + signal);
  }
  noted = signal;
  if ((launcher == 0 || sender == launcher) && ++counted > 1) ::_exit(128 + signal);
}

}  // namespace

StopSignals::StopSignals(Begin begin) {
  noted = counted = 0;
  launcher = dist::is_launched() ? ::getppid() : 0;
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
    siginfo_t info{};
    while (true) {
      const int s = ::sigwaitinfo(&set, &info);
      if (ended_) return;
      if (s > 0) note(s, info.si_pid);
    }
  });
  // For threads that were there before.
  struct sigaction action {};
  action.sa_sigaction = [](int s, siginfo_t* info, void*) { note(s, info->si_pid); };
  action.sa_flags = SA_RESTART | SA_SIGINFO;
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
