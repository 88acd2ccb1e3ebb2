// Starts the ranks of a run on this host, watches them, and starts them again.
//
// Each rank is the same program with the same arguments and what dist/launch.h reads of its
// environment: RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT,
// SG_LAUNCHER=sgtrain, SG_JOB (a random token), SG_RESTART (starts before this one) and, for rank
// 0, SG_LISTENER, the descriptor of a socket that listens at that port already. Each has its share
// of the cores, and none outlives the launcher, not even where that is killed.
#pragma once
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "core/error.h"

namespace sg::dist {

// What a start of all ranks runs.
struct LauncherStart {
  std::vector<std::string> command;  // the program's name and arguments
  std::string checkpoint;            // that it goes on from; "": it begins anew
};

struct LauncherSettings {
  using Seconds = std::chrono::duration<double>;

  int ranks = 1;
  std::function<LauncherStart(int64_t restart)> start;  // asked before each; the first is 0
  int64_t max_restarts = 0;
  bool set_threads = true;  // OMP_NUM_THREADS, where the environment does not have it

  // Once a rank has failed, the others may end by themselves, and say what they know. After
  // `patience` they get SIGTERM, which ends those that still wait for a rank to come, and SIGKILL
  // after the shorter of `grace` and `timeout`. Once a rank has done its work they have the longer
  // of these, and `kill_after` from SIGTERM on.
  Seconds timeout{300}, patience{2}, grace{30}, kill_after{10};
  // Before a restart after a start that saved no checkpoint; then twice as long, up to 30 s.
  Seconds backoff{1};
  std::filesystem::path program;  // "": the one that runs
};

// Returns when all ranks have ended: ExitCode::ok, ExitCode::interrupted where they have saved, or
// 128 + n where signal n ended them before the first step. SIGTERM, SIGINT, SIGHUP, SIGUSR1 and
// SIGUSR2 go to each rank, once a request. Standard output is rank 0's; what else the ranks write
// goes to standard error. Throws the Error of a failed run, with the exit code of the rank that is
// to blame, or ExitCode::peer where it was killed or did not end. No other thread may take signals.
ExitCode launch(const LauncherSettings& settings);

// This process is a rank that launch() started.
bool is_launched();

}  // namespace sg::dist
