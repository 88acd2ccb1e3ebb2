// Errors that name the thing, what was expected, what was found, and what to do.
#pragma once
#include <fmt/format.h>

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

class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
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
