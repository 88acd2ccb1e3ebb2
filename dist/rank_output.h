// What the ranks write, as the person at the launcher sees it: whole lines, each with its rank.
#pragma once
#include <unistd.h>

#include <deque>
#include <string>
#include <string_view>

namespace sg::dist {

// The lines of one rank.
class RankOutput {
 public:
  enum class Shown { as_is, with_rank };  // "[rank 3] ...", and no byte that a terminal obeys
  RankOutput(int rank, Shown shown) : rank_(rank), shown_(shown) {}

  // What came; returns the lines that are whole by now, as they are shown.
  std::string take(std::string_view bytes);
  // At the end: the last line, where its end is missing.
  std::string take_rest();

  // For messages. At most kKept, the newest last.
  const std::deque<std::string>& last_lines() const { return last_; }

  static constexpr size_t kKept = 8, kLongestLine = 64 << 10;  // a longer one is cut into several

 private:
  std::string show(std::string_view line);

  int rank_;
  Shown shown_;
  std::string begun_;  // of a line
  std::deque<std::string> last_;
};

// Standard error. Where nobody reads it, what is shown waits, and the launcher does not.
class Screen {
 public:
  void show(std::string_view text);
  bool is_waiting() const { return !waiting_.empty(); }
  // Nothing should be added until it is read.
  bool is_behind() const { return waiting_.size() > 256 << 10; }
  // As much as goes at once.
  void write();
  // All, if it is read within two seconds.
  void finish();

 private:
  // Of a terminal that shows rank 0's progress bar, its line becomes free.
  const bool over_bar_ = ::isatty(STDOUT_FILENO) && ::isatty(STDERR_FILENO);
  std::string waiting_;
};

}  // namespace sg::dist
