// Ranks of a run as child processes.
#pragma once
#include <signal.h>
#include <sys/wait.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "dist/group.h"
#include "dist/socket.h"
#include "tests/support/files.h"
#include "tests/support/process.h"

namespace sg::test {

// How a rank ended: its exit code, or 128 + the signal, and what its Error said.
struct Outcome {
  int code = 0;
  std::string text;
  double seconds = 0;  // from the start of all to the end of this one
};

// Tells the test that the program of a rank has come to a place, and the test waits for it.
inline void note(const std::filesystem::path& file) { put(file, ""); }
inline void wait_for_note(const std::filesystem::path& file) {
  for (int i = 0; i < 1000 && !std::filesystem::exists(file); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  REQUIRE(std::filesystem::exists(file));
}

// Starts them; each joins the group and runs `program`; of an Error the others are told.
class Ranks {
 public:
  using Program = std::function<void(dist::Group&)>;
  using Told = std::function<void(dist::Launch&)>;  // changes what a rank is told by its launcher

  Ranks(int ranks, double timeout, const Program& program, const Told& told = {}) {
    auto listener = std::move(*dist::listen_on(0));
    settings_.timeout = dist::Seconds(timeout);
    settings_.folder = folder_.path();
    for (int rank = 0; rank < ranks; ++rank) {
      dist::Launch launch{rank, ranks, rank, ranks, "sgtrain", "test", "127.0.0.1"};
      launch.port = dist::port_of(listener.get());
      if (rank == 0) launch.listener = ::dup(listener.get());
      if (told) told(launch);
      pids_.push_back(start_child([&] {
        listener = FileDescriptor();
        return run(launch, program);
      }));
      if (launch.listener >= 0) ::close(launch.listener);
    }
  }
  ~Ranks() {
    for (const pid_t pid : pids_)
      if (pid > 0 && ::kill(pid, SIGKILL) == 0) ::waitpid(pid, nullptr, 0);
  }
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;

  pid_t pid(int rank) const { return pids_.at(size_t(rank)); }

  std::vector<Outcome> wait() {
    std::vector<Outcome> outcomes(pids_.size());
    for (size_t left = pids_.size(); left > 0;) {
      for (size_t i = 0; i < pids_.size(); ++i) {
        int status = 0;
        if (pids_[i] <= 0 || ::waitpid(pids_[i], &status, WNOHANG) <= 0) continue;
        pids_[i] = 0;
        --left;
        outcomes[i] = {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), "",
                       dist::Seconds(dist::Clock::now() - begin_).count()};
        const auto text = folder_ / std::to_string(i);
        if (std::filesystem::exists(text)) outcomes[i].text = read_file(text);
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return outcomes;
  }

 private:
  int run(const dist::Launch& launch, const Program& program) {
    std::unique_ptr<dist::Group> group;
    try {
      group = dist::join(launch, settings_);
      program(*group);
      return 0;
    } catch (const Error& e) {
      put(folder_ / std::to_string(launch.rank), e.what());
      if (group) group->leave(e.what());
      return int(e.code());
    }
  }

  const dist::Clock::time_point begin_ = dist::Clock::now();
  TemporaryFolder folder_;
  dist::GroupSettings settings_;
  std::vector<pid_t> pids_;
};

}  // namespace sg::test
