// Rank 0's side of the connections between the ranks of a run: who has come, the texts that they
// exchange, and who is lost.
#pragma once
#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "dist/message.h"
#include "dist/standing.h"

namespace sg::dist {

struct ControlSettings {
  int ranks = 1;
  std::string job;       // Launch::job
  Seconds timeout{300};  // GroupSettings::timeout

  Seconds silence() const { return timeout * 0.8; }  // without a sign of life
  Seconds beat() const { return std::min(Seconds(1), timeout / 10); }
  Seconds warn_after() const { return std::min(Seconds(60), timeout / 2); }
};

// Something that wakes a poll().
class Wake {
 public:
  Wake();
  int fd() const { return fd_.get(); }
  void set();
  void clear();

 private:
  FileDescriptor fd_;
};

// A thread of its own, from the constructor to the destructor.
class ControlServer {
 public:
  // `first`: this process' own end, beside those that come to `listener`.
  ControlServer(FileDescriptor listener, FileDescriptor first, const ControlSettings& settings);
  // Those that have not said goodbye hear that rank 0 has ended.
  ~ControlServer();
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;

 private:
  using Time = Clock::time_point;
  struct Seat {
    Channel connection;
    std::string host, address;
    int64_t process = 0;
    bool taken = false;
    Time left;  // where it came and went again before all were there
    // Of the collective of texts that it is in, and of the key that it waits for.
    int64_t kind = 0;
    std::string text, key;
  };
  struct Newcomer {
    Channel connection;
    Time since;
  };

  void run();
  void accept_all();
  void greet(Newcomer& newcomer, const Message& hello);
  std::string refusal(const Message& hello) const;
  void welcome();
  void handle(int rank, Message& message);
  void answer_gets();
  void complete_meeting();
  void judge(Time now);
  void judge_absence(Time now);
  void end(const std::string& verdict, int except = -1);
  void to_all(const Message& message, int except = -1);

  const ControlSettings settings_;
  FileDescriptor listener_;
  Wake wake_;
  std::vector<Newcomer> newcomers_;
  std::vector<Seat> seats_;
  std::vector<Standing> standings_;
  std::map<std::string, std::string> store_;
  std::string verdict_;
  std::string warned_;  // of which stall
  const Time begin_ = Clock::now();
  bool complete_ = false;  // all have come
  std::atomic<bool> stop_ = false;
  std::thread thread_;  // the last member: it uses the others
};

}  // namespace sg::dist
