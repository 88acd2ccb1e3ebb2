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

inline dist::GroupSettings within(double seconds) { return {dist::Seconds(seconds)}; }
// Where nothing is to fail.
inline const dist::GroupSettings kPatient = within(30);

inline void check_all_well(const std::vector<Outcome>& outcomes) {
  for (const Outcome& o : outcomes) {
    CHECK(o.code == 0);
    CHECK(o.text == "");
  }
}

// The rank ended in time with ExitCode::peer, and its message has all of `parts`.
inline void check_lost(const Outcome& o, double seconds, const std::vector<std::string>& parts) {
  CAPTURE(o.text);
  CHECK(o.code == int(ExitCode::peer));
  CHECK(o.seconds < seconds);
  for (const std::string& part : parts) CHECK_MESSAGE(o.text.find(part) != std::string::npos, part);
}

// Starts them; each joins the group and runs `program`; of an Error the others are told.
class Ranks {
 public:
  using Program = std::function<void(dist::Group&)>;
  using Told = std::function<void(dist::Launch&)>;  // of a rank: changes what its launcher says

  Ranks(int ranks, const dist::GroupSettings& settings, const Program& program,
        const Told& told = {})
      : settings_(settings), outcomes_(size_t(ranks)) {
    auto listener = std::move(*dist::listen_on(0));
    if (settings_.folder.empty()) settings_.folder = folder_.path();
    for (int rank = 0; rank < ranks; ++rank) {
      dist::Launch launch{rank, ranks, rank, ranks, "sgtrain", "test", "127.0.0.1"};
      launch.port = dist::port_of(listener.get());
      if (rank == 0) launch.listener = ::dup(listener.get());
      pids_.push_back(start_child([&] {
        listener = FileDescriptor();
        if (told) told(launch);
        return run(rank, launch, program);
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

  // For the end of all, or of all but one, which is stopped.
  std::vector<Outcome> wait(int but = -1) {
    const auto runs = [&](size_t i) { return int(i) != but && pids_[i] > 0; };
    for (bool left = true; left;) {
      left = false;
      for (size_t i = 0; i < pids_.size(); ++i) {
        int status = 0;
        if (!runs(i)) continue;
        if (::waitpid(pids_[i], &status, WNOHANG) <= 0) {
          left = true;
          continue;
        }
        pids_[i] = 0;
        outcomes_[i] = {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), "",
                        dist::Seconds(dist::Clock::now() - begin_).count()};
        const auto text = folder_ / std::to_string(i);
        if (std::filesystem::exists(text)) outcomes_[i].text = read_file(text);
      }
      if (left) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return outcomes_;
  }

 private:
  int run(int index, const dist::Launch& launch, const Program& program) {
    std::unique_ptr<dist::Group> group;
    try {
      group = dist::join(launch, settings_);
      program(*group);
      return 0;
    } catch (const Error& e) {
      put(folder_ / std::to_string(index), e.what());
      if (group) group->leave(e.what());
      return int(e.code());
    }
  }

  const dist::Clock::time_point begin_ = dist::Clock::now();
  TemporaryFolder folder_;
  dist::GroupSettings settings_;
  std::vector<pid_t> pids_;  // 0: has ended
  std::vector<Outcome> outcomes_;
};

}  // namespace sg::test
