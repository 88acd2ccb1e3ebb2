#include "report/console.h"

#include <fmt/chrono.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <ctime>
#include <utility>

#include "core/error.h"
#include "core/text.h"

namespace sg::report {
namespace {

// Whether it is a terminal on which a bar can be drawn. https://no-color.org. mpirun gives its
// processes a terminal even where its own output is a file.
bool takes_escapes(std::FILE* screen) {
  const char *term = std::getenv("TERM"), *no_color = std::getenv("NO_COLOR");
  return ::isatty(::fileno(screen)) && term && std::string_view(term) != "dumb" &&
         !(no_color && *no_color) && !std::getenv("OMPI_COMM_WORLD_SIZE");
}

// As much of it as fits into the terminal's width; of UTF-8, whole characters of one column each.
std::string_view fitting(std::string_view text, std::FILE* screen) {
  winsize size{};
  if (::ioctl(::fileno(screen), TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return text;
  size_t columns = 0, i = 0;
  for (; i < text.size(); ++i)
    if ((uint8_t(text[i]) & 0xC0) != 0x80 && ++columns > size.ws_col) break;
  return text.substr(0, i);
}

class ToConsole : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit ToConsole(Console& console) : console_(console) {}

 private:
  void sink_it_(const spdlog::details::log_msg& m) override {
    const std::string_view text(m.payload.data(), m.payload.size());
    m.level >= spdlog::level::warn ? console_.notice(text) : console_.line(text);
  }
  void flush_() override {}

  Console& console_;
};

}  // namespace

Console::Console(bool quiet, std::FILE* screen)
    : screen_(screen), quiet_(quiet), terminal_(!quiet && takes_escapes(screen)) {
  spdlog::set_default_logger(
      std::make_shared<spdlog::logger>("", std::make_shared<ToConsole>(*this)));
}

Console::~Console() {
  if (bar_) show(screen_, {});
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
  if (muted_) return;
  const std::lock_guard lock(mutex_);
  log(text);
  if (!quiet_) show(screen_, text);
}

void Console::warning(std::string_view text) {
  if (!muted_) notice(text);
}

void Console::notice(std::string_view text) {
  const std::lock_guard lock(mutex_);
  const std::string marked = fmt::format("warning: {}", text);
  log(marked), show(stderr, marked);
}

void Console::detail(std::string_view text) {
  if (muted_) return;
  const std::lock_guard lock(mutex_);
  log(text);
  if (!quiet_ && !terminal_) show(screen_, text);
}

void Console::bar(std::string_view text) {
  const auto now = std::chrono::steady_clock::now();
  if (muted_ || !terminal_ || now - drawn_ < std::chrono::milliseconds(80)) return;
  const std::lock_guard lock(mutex_);
  drawn_ = now, bar_ = true;
  // The cursor waits at the beginning. A terminal that is made narrower wraps what stands there and
  // leaves the cursor at its beginning, so clearing from there to the end removes all of it.
  std::fputs(fmt::format("\r\x1b[J\x1b[?7l{}\x1b[?7h\r", fitting(text, screen_)).c_str(), screen_);
  std::fflush(screen_);
}

void Console::show(std::FILE* to, std::string_view message) {
  const std::string text = escape_odd_bytes(message);  // paths are bytes
  if (bar_) std::fputs("\r\x1b[J", screen_), std::fflush(screen_);
  bar_ = false;
  std::fwrite(text.data(), 1, text.size(), to);
  if (!text.empty()) std::fputc('\n', to);
  std::fflush(to);
  if (forgives_) std::clearerr(to);
}

void Console::log(std::string_view text) {
  const std::string stamped = fmt::format(
      "{:%Y-%m-%d %H:%M:%S} {}\n", fmt::localtime(std::time(nullptr)), escape_odd_bytes(text));
  if (muted_) return;
  log_.is_open() ? append_to_log(stamped) : void(before_log_ += stamped);
}

void Console::append_to_log(std::string_view text) {
  if (log_.append(text) || std::exchange(warned_, true)) return;
  show(stderr, fmt::format("warning: {}; the run goes on, and tries again", log_.problem()));
}

double Progress::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
}

std::string Progress::text(std::string_view title, int64_t done, int64_t total,
                           std::string_view note) const {
  const double share = double(done) / double(std::max<int64_t>(total, 1));
  return fmt::format(" {} {} {:3.0f}%  {}  {} left", title, progress_bar(share), 100 * share, note,
                     duration(seconds() / share * (1 - share)));
}

std::string progress_bar(double share) {
  constexpr int kWidth = 24;
  std::string text;
  for (int i = 0; i < kWidth; ++i) text += i < int(share * kWidth + 0.5) ? "━" : "╌";
  return text;
}

std::string duration(double seconds) {
  if (!std::isfinite(seconds)) return "?";
  const auto s = int64_t(std::max(0.0, seconds) + 0.5);
  return s < 3600 ? fmt::format("{}:{:02}", s / 60, s % 60)
                  : fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

}  // namespace sg::report
