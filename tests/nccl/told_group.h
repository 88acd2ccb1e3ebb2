// Rank 0 of a group whose other ranks say what a test tells.
#pragma once
#include <map>
#include <stdexcept>

#include "dist/group.h"

namespace sg::test {

class ToldGroup : public dist::Group {
 public:
  explicit ToldGroup(int ranks = 1) : ranks_(ranks) {}
  int rank() const override { return 0; }
  int ranks() const override { return ranks_; }
  std::chrono::duration<double> timeout() const override { return limit; }
  std::string name_of(int rank) const override { return fmt::format("rank {}", rank); }
  std::vector<std::string> all_gather(std::string_view what, const std::string& text) override {
    std::vector<std::string> all{text};
    if (const auto it = others.find(std::string(what)); it != others.end())
      all.insert(all.end(), it->second.begin(), it->second.end());
    return all;
  }
  std::string broadcast(std::string_view, const std::string& text) override { return text; }
  void barrier(std::string_view) override {}
  void progress(std::string_view) override {}
  void busy(std::string_view, const std::function<void()>& f) override { f(); }
  dist::Communicator& communicator(Device) override { throw std::logic_error("not of a test"); }
  void leave(std::string_view) override {}

  std::chrono::duration<double> limit{60};
  std::map<std::string, std::vector<std::string>> others;  // by what the texts are for

 private:
  int ranks_;
};

}  // namespace sg::test
