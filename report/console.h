// What a run says: to standard output, to train.log, and as a progress bar on a terminal.
#pragma once
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <mutex>
#include <string>
#include <string_view>

#include "io/log_file.h"

namespace sg::report {

// While it lives it is also where spdlog's messages go: information to standard output, warnings to
// standard error, and all of them with the time to the log. One at a time.
class Console {
 public:
  // `quiet` keeps everything but warnings off the screen, which is standard output, or standard
  // error where that is for results.
  explicit Console(bool quiet = false, std::FILE* screen = stdout);
  ~Console();
  Console(const Console&) = delete;
  Console& operator=(const Console&) = delete;

  // From now on everything is also appended to this file, and first what was said before. A full
  // disk is warned of once; what waits for room is written when there is some.
  void open_log(const std::filesystem::path& path);
  // Why the end of the log is missing, or "".
  std::string log_problem();
  bool terminal() const { return terminal_; }

  // From now on words that cannot be shown, as standard output is closed or full, are no error of
  // the program: a run is worth more than they are, and the log has them.
  void forgive_screen() { forgives_ = true; }

  // From now on it shows and logs notices alone: another process of the run says the rest.
  void mute() { muted_ = true; }

  void line(std::string_view text);
  // A warning of what no other process of the run may have seen; spdlog's are such.
  void notice(std::string_view text);
  void warning(std::string_view text);
  // A line of which there are many: on a terminal the bar takes its place.
  void detail(std::string_view text);
  // Shown on a terminal until something else is; at most some ten times a second.
  void bar(std::string_view text);

 private:
  void show(std::FILE* to, std::string_view text);
  void log(std::string_view text);
  void append_to_log(std::string_view text);

  std::mutex mutex_;
  std::FILE* screen_;
  bool quiet_, terminal_, bar_ = false, forgives_ = false, muted_ = false;
  std::chrono::steady_clock::time_point drawn_{};
  LogFile log_;
  std::string before_log_;
  bool warned_ = false;
};

// The words of a bar, for something that begins now.
class Progress {
 public:
  double seconds() const;
  // " Test ━━━━╌╌╌╌  50%  Acc@1 80.000  0:10 left"
  std::string text(std::string_view title, int64_t done, int64_t total,
                   std::string_view note) const;

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

std::string progress_bar(double share);  // "━━━━━━╌╌╌╌"

// "1:02:03", "2:03"
std::string duration(double seconds);

}  // namespace sg::report
