// What threads of this folder tell the user at once, where no error can be thrown.
#pragma once
#include <unistd.h>

#include <string>

#include "core/error.h"

namespace sg::dist {

// "warning: <text>" to standard error, without any lock that the main thread could hold.
inline void say(const char* kind, const std::string& text) {
  const std::string line = printable(fmt::format("{}: {}\n", kind, text));
  (void)!::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace sg::dist
