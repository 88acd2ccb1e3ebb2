// Samples of a data set that cannot be read: each is logged once and counted, and more than a
// stated share of them ends the run. A set that is read as a whole, again and again, is counted
// anew each time: what has been mended since is no longer broken.
#pragma once
#include <cstdint>
#include <map>
#include <set>
#include <string>

namespace sg::data {

constexpr int64_t kFewBroken = 10;
// How many of `samples` may be broken: this share of them; above 0, a few (kFewBroken) always may.
int64_t allowed_broken(double max_broken_share, int64_t samples);

class BrokenSamples {
 public:
  BrokenSamples(double max_share, int64_t samples) : max_share_(max_share), samples_(samples) {}

  void add(int64_t sample, const std::string& message);
  // Counts anew; what was logged is not logged again.
  void start() { messages_.clear(); }
  // Throws ExitCode::data, with their messages, where there are more than allowed.
  void check() const;
  const std::map<int64_t, std::string>& messages() const { return messages_; }  // by sample

 private:
  double max_share_;
  int64_t samples_;
  std::map<int64_t, std::string> messages_;
  std::set<int64_t> logged_;
};

}  // namespace sg::data
