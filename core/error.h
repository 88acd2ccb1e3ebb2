// Errors that name the thing, what was expected, what was found, and what to do.
#pragma once
#include <fmt/core.h>

#include <cstdint>
#include <stdexcept>
#include <string>

namespace sg {

// Exit codes of every program (docs: --help of each program).
enum class ExitCode : int {
  ok = 0,
  failure = 1,
  usage = 2,
  data = 3,
  checkpoint = 4,
  peer = 5,
  nonfinite = 6,
  interrupted = 75,
};

// Names from files may hold control characters; they must not reach a terminal.
inline std::string printable(std::string text) {
  for (char& c : text)
    if ((uint8_t(c) < 0x20 && c != '\n' && c != '\t') || c == 0x7f) c = '?';
  return text;
}

class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message)
      : std::runtime_error(printable(message)), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

template <class... A>
[[noreturn]] void fail(ExitCode code, fmt::format_string<A...> format, A&&... args) {
  throw Error(code, fmt::format(format, std::forward<A>(args)...));
}

// Throws ExitCode::failure unless `condition`; the message is built only then.
template <class... A>
void check(bool condition, fmt::format_string<A...> format, A&&... args) {
  if (!condition) [[unlikely]]
    fail(ExitCode::failure, format, std::forward<A>(args)...);
}

}  // namespace sg
