#include "report/console.h"

#include <fmt/chrono.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cmath>
#include <ctime>
#include <utility>

#include "core/error.h"
#include "core/text.h"

namespace sg::report {
namespace {

class ToConsole : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit ToConsole(Console& console) : console_(console) {}

 private:
  void sink_it_(const spdlog::details::log_msg& m) override {
    const std::string_view text(m.payload.data(), m.payload.size());
    m.level >= spdlog::level::warn ? console_.warning(text) : console_.line(text);
  }
  void flush_() override {}

  Console& console_;
};

}  // namespace

Console::Console(bool quiet) : quiet_(quiet), terminal_(!quiet && ::isatty(STDOUT_FILENO)) {
  spdlog::set_default_logger(
      std::make_shared<spdlog::logger>("", std::make_shared<ToConsole>(*this)));
}

Console::~Console() {
  if (bar_) show(stdout, {});
  spdlog::set_default_logger(std::make_shared<spdlog::logger>(""));
}

void Console::open_log(const std::filesystem::path& path) {
  const std::lock_guard lock(mutex_);
  log_ = LogFile(path);
  append_to_log(std::exchange(before_log_, {}));
}

std::string Console::log_problem() {
  const std::lock_guard lock(mutex_);
  append_to_log({});
  return log_.problem();
}

void Console::line(std::string_view text) {
  const std::lock_guard lock(mutex_);
  log(text);
  if (!quiet_) show(stdout, text);
}

void Console::warning(std::string_view text) {
  const std::lock_guard lock(mutex_);
  const std::string marked = fmt::format("warning: {}", text);
  log(marked), show(stderr, marked);
}

void Console::detail(std::string_view text) {
  const std::lock_guard lock(mutex_);
  log(text);
  if (!quiet_ && !terminal_) show(stdout, text);
}

void Console::bar(std::string_view text) {
  const auto now = std::chrono::steady_clock::now();
  if (!terminal_ || now - drawn_ < std::chrono::milliseconds(80)) return;
  const std::lock_guard lock(mutex_);
  drawn_ = now, bar_ = true;
  // No line break, and none by the terminal either: a wrapped bar could not be drawn over.
  std::fputs(fmt::format("\r\x1b[?7l{}\x1b[?7h\x1b[K", text).c_str(), stdout);
  std::fflush(stdout);
}

// Standard output may be closed or full; the run is worth more than its words.
void Console::show(std::FILE* to, std::string_view message) {
  const std::string text = escape_odd_bytes(message);  // paths are bytes
  if (bar_) std::fputs("\r\x1b[K", stdout), std::fflush(stdout);
  bar_ = false;
  std::fwrite(text.data(), 1, text.size(), to);
  if (!text.empty()) std::fputc('\n', to);
  std::fflush(to);
  std::clearerr(to);
}

void Console::log(std::string_view text) {
  const std::string stamped = fmt::format(
      "{:%Y-%m-%d %H:%M:%S} {}\n", fmt::localtime(std::time(nullptr)), escape_odd_bytes(text));
  log_.is_open() ? append_to_log(stamped) : void(before_log_ += stamped);
}

void Console::append_to_log(std::string_view text) {
  if (log_.append(text) || std::exchange(warned_, true)) return;
  show(stderr, fmt::format("warning: {}; the run goes on, and tries again", log_.problem()));
}

std::string duration(double seconds) {
  if (!std::isfinite(seconds)) return "?";
  const auto s = int64_t(std::max(0.0, seconds) + 0.5);
  return s < 3600 ? fmt::format("{}:{:02}", s / 60, s % 60)
                  : fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

}  // namespace sg::report
