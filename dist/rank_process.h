// One process that the launcher starts.
#pragma once
#include <sys/types.h>

#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include "io/file.h"

namespace sg::dist {

struct RankCommand {
  std::filesystem::path program;
  std::vector<std::string> arguments;    // the program's name first
  std::vector<std::string> environment;  // "NAME=value"
  std::vector<int> cores;                // to run on; empty: where this process may
  int listener = -1;                     // a socket that it inherits, by the same number
  bool keeps_output = false;             // its standard output is this process's
  sigset_t signals{};                    // that are blocked in it
};

struct RankProcess {
  pid_t pid = 0;
  FileDescriptor output;  // the end, which does not wait, of a pipe from what it writes
};

// Starts it in a process group of its own, without input. It ends when this thread does, however
// that comes. Standard error, and output unless it is kept, go to the pipe. Throws
// ExitCode::failure where there can be no further process.
RankProcess start_rank(const RankCommand& command);

// Stopped by a signal, not by a debugger.
bool is_stopped(pid_t pid);

// The file of the program that runs, by its name, which ps shows. Where that is another file by
// now, as after a build, the one that runs.
std::filesystem::path own_program();

}  // namespace sg::dist
