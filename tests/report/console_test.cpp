#include "report/console.h"

#include <doctest/doctest.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "tests/support/environment.h"
#include "tests/support/files.h"

using namespace sg;
using namespace sg::test;

namespace {

// What a bar and a line after it send to a terminal of `columns`.
std::string sent(const std::string& bar, int columns, const char* term, const char* no_color = "") {
  winsize size{24, uint16_t(columns), 0, 0};
  int terminal = -1;
  std::fflush(stdout);  // or the child would write what is buffered once more
  const pid_t child = ::forkpty(&terminal, nullptr, nullptr, &size);
  if (child == 0) {
    ::setenv("TERM", term, 1), ::setenv("NO_COLOR", no_color, 1);
    {
      report::Console console;
      console.bar(bar);
      console.line("done");
    }
    ::_exit(0);
  }
  std::string all;
  char buffer[4096];
  for (ssize_t n; (n = ::read(terminal, buffer, sizeof buffer)) > 0;) all.append(buffer, size_t(n));
  ::close(terminal);
  ::waitpid(child, nullptr, 0);
  return all;
}

}  // namespace

TEST_CASE("console: a bar is cut to the terminal, and cleared from where it begins") {
  const std::string bar(100, '#');
  const std::string all = sent(bar, 30, "xterm");
  CHECK(contains(all, std::string(30, '#')));
  CHECK(!contains(all, std::string(31, '#')));
  // The cursor is back at its beginning before anything else is written, and clears to the end.
  CHECK(contains(all, "#\x1b[?7h\r"));
  CHECK(all.find("\r\x1b[J", all.find('#')) != std::string::npos);
  CHECK(all.ends_with("done\r\n"));
  // Three bytes a column.
  std::string line;
  for (int i = 0; i < 40; ++i) line += "━";
  CHECK(contains(sent(line, 30, "xterm"), line.substr(0, 90) + "\x1b"));
}

TEST_CASE("console: no escapes where the terminal or its user wants none") {
  CHECK(sent("bar", 80, "dumb") == "done\r\n");
  CHECK(sent("bar", 80, "xterm", "1") == "done\r\n");
  CHECK(contains(sent("bar", 80, "xterm"), "\x1b"));
  const Environment of_mpirun("OMPI_COMM_WORLD_SIZE", "2");
  CHECK(sent("bar", 80, "xterm") == "done\r\n");
}
