// One rank's connection to rank 0 (control_server.h): texts between the ranks, and the verdict
// where one is lost. A thread of its own sends signs of life and receives.
#pragma once
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "dist/communicator.h"
#include "dist/control_server.h"
#include "dist/message.h"
#include "dist/standing.h"

namespace sg::dist {

class Control {
 public:
  // `connection`: rank 0 has answered its hello. A process that still has its Control `exit_after`
  // a verdict, and is not busy, waits where it cannot be reached: it then says the verdict and
  // ends.
  Control(Channel connection, int rank, const ControlSettings& settings, Seconds exit_after);
  ~Control();
  Control(const Control&) = delete;
  Control& operator=(const Control&) = delete;

  // Until all ranks have come.
  void wait_for_all();

  int rank() const { return rank_; }
  int ranks() const { return settings_.ranks; }
  Seconds timeout() const { return settings_.timeout; }
  std::string name_of(int rank) const;
  // By which other ranks reach it.
  const std::string& address_of(int rank) const { return peers_.at(size_t(rank)).address; }

  // All that waits throws ExitCode::peer where a rank is lost. By one thread at a time.
  void set(const std::string& key, std::string value);
  std::string get(const std::string& key);  // waits until it is set
  // `what` is the same on all ranks, or ExitCode::failure names two that differ.
  std::vector<std::string> meet(MeetingKind kind, std::string_view what, std::string text);

  void progress(std::string_view where);
  void set_busy(std::string_view what);  // "": not
  // While a communicator is made, which nothing can wake and nothing is lost by: where a rank is
  // lost, this process ends a second later.
  void set_connecting(bool connecting);

  // What it is in is part of where this rank stands, and it is aborted where a rank is lost. Null:
  // none; returns when it is not used any more.
  void watch(Communicator* communicator);
  // Data from another rank did not come, for `problem`: throws the verdict that follows, or where
  // none does, ends the run for that reason.
  [[noreturn]] void broken(const std::string& problem);

  // This rank ends for a reason of its own; the others hear it. Returns when they did, or soon.
  void leave(std::string_view reason);
  // Regular end: waits for those of all ranks, but not long.
  void goodbye();

 private:
  struct Peer {
    std::string host, address;
    int64_t process = 0;
  };
  using Lock = std::unique_lock<std::mutex>;

  void run();
  void handle(Message& message);
  void judge(Clock::time_point now);
  void lost(const std::string& verdict);
  Message beat();
  void exit_if_stuck(Clock::time_point now);
  void post(Lock&, Message message);
  Message ask(Message question);
  void throw_if_lost() const;

  const int rank_;
  const ControlSettings settings_;
  const Seconds exit_after_;
  std::vector<Peer> peers_;  // complete before wait_for_all() returns, then constant

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  Standing mine_;
  bool connecting_ = false;
  std::vector<Message> outbox_;
  bool beat_now_ = false;
  std::optional<Message> answer_;
  std::string verdict_;
  Clock::time_point verdict_at_;
  bool ended_ = false;    // nothing more comes from rank 0, nor goes there
  bool parting_ = false;  // this rank has said that it ends

  std::mutex communicator_mutex_;  // taken before mutex_
  Communicator* communicator_ = nullptr;

  // Of the thread alone.
  Channel connection_;
  Clock::time_point heard_ = Clock::now();

  Wake wake_;
  std::atomic<bool> stop_ = false;
  std::thread thread_;  // the last member: it uses the others
};

}  // namespace sg::dist
