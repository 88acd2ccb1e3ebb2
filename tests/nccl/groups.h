// Groups of tests: one process that is told what others say, and processes that share memory.
#pragma once
#include <algorithm>
#include <cstring>

#include "dist/group.h"
#include "tests/nccl/meeting.h"

namespace sg::test {

class TestGroup : public dist::Group {
 public:
  TestGroup(int rank, int ranks) : rank_(rank), ranks_(ranks) {}
  int rank() const override { return rank_; }
  int ranks() const override { return ranks_; }
  std::chrono::duration<double> timeout() const override { return limit; }
  std::string name_of(int rank) const override { return fmt::format("rank {}", rank); }
  std::string broadcast(std::string_view what, const std::string& text) override {
    return all_gather(what, text)[0];
  }
  void barrier(std::string_view what) override { all_gather(what, ""); }
  void progress(std::string_view) override {}
  void busy(std::string_view, const std::function<void()>& f) override { f(); }
  dist::Communicator& communicator(Device) override { throw std::logic_error("not of a test"); }
  void leave(std::string_view) override {}

  std::chrono::duration<double> limit{60};

 private:
  int rank_, ranks_;
};

// Rank 0. By what a text is for: what the others say.
struct ToldGroup : TestGroup {
  explicit ToldGroup(int ranks = 1) : TestGroup(0, ranks) {}
  std::vector<std::string> all_gather(std::string_view what, const std::string& text) override {
    std::vector<std::string> all{text};
    const auto it = others.find(std::string(what));
    for (int r = 1; r < ranks(); ++r)
      all.push_back(it == others.end() ? text : it->second.at(size_t(r - 1)));
    return all;
  }
  std::map<std::string, std::vector<std::string>> others;
};

// A process of several, which have the memory of this name.
class SharedGroup : public TestGroup {
 public:
  SharedGroup(const std::string& name, int rank, int ranks)
      : TestGroup(rank, ranks), shared_(shared_memory<Shared>(name)), meeting_{ranks} {}
  std::vector<std::string> all_gather(std::string_view, const std::string& text) override {
    std::strncpy(shared_->text[rank()], text.c_str(), sizeof shared_->text[0] - 1);
    meet();
    std::vector<std::string> all(shared_->text, shared_->text + ranks());
    meet();
    return all;
  }

 private:
  struct Shared {
    Arrivals arrivals;
    char text[4][4096];
  };
  void meet() {
    meeting_.wait(shared_->arrivals, [] { return false; });
  }
  Shared* shared_;
  Meeting meeting_;
};

}  // namespace sg::test
