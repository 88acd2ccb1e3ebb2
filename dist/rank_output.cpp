#include "dist/rank_output.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "core/error.h"
#include "core/text.h"

namespace sg::dist {

std::string RankOutput::take(std::string_view bytes) {
  begun_ += bytes;
  std::string shown;
  size_t begin = 0;
  while (true) {
    const size_t end = std::min(begun_.find('\n', begin), begin + kLongestLine);
    if (end >= begun_.size()) break;
    shown += show(std::string_view(begun_).substr(begin, end - begin));
    begin = end + (begun_[end] == '\n');
  }
  begun_.erase(0, begin);
  return shown;
}

std::string RankOutput::take_rest() { return begun_.empty() ? "" : take("\n"); }

std::string RankOutput::show(std::string_view line) {
  const std::string safe = printable(escape_odd_bytes(line));
  last_.push_back(safe.substr(0, 500));
  if (last_.size() > kKept) last_.pop_front();
  return shown_ == Shown::as_is ? fmt::format("{}\n", line)
                                : fmt::format("[rank {}] {}\n", rank_, safe);
}

void Screen::show(std::string_view text) {
  if (over_bar_ && !text.empty()) waiting_ += "\r\x1b[K";
  waiting_ += text;
  write();
}

void Screen::write() {
  while (!waiting_.empty()) {
    pollfd out{.fd = STDERR_FILENO, .events = POLLOUT};
    if (::poll(&out, 1, 0) <= 0) return;
    // A pipe that is ready takes so much without waiting.
    constexpr size_t kAtOnce = 4096;
    const ssize_t n = ::write(STDERR_FILENO, waiting_.data(), std::min(waiting_.size(), kAtOnce));
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
    waiting_.erase(0, n > 0 ? size_t(n) : waiting_.npos);  // nobody can read it: it is lost
  }
}

void Screen::finish() {
  for (int i = 0; i < 20 && is_waiting(); ++i) {
    pollfd out{.fd = STDERR_FILENO, .events = POLLOUT};
    ::poll(&out, 1, 100);
    write();
  }
}

}  // namespace sg::dist
