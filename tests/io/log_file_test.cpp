#include "io/log_file.h"

#include <unistd.h>

#include <cerrno>

#include "tests/support/files.h"

using namespace sg;
using namespace sg::test;

namespace {

bool full = false;

// Half of a write fits before the disk is full.
ssize_t write_until_full(int fd, const void* data, size_t bytes) {
  static bool half = false;
  if (!full) return ::write(fd, data, bytes);
  if (!half && bytes > 1) {
    half = true;
    return ::write(fd, data, bytes / 2);
  }
  half = false;
  errno = ENOSPC;
  return -1;
}

}  // namespace

TEST_CASE("log file: what found no room is written later, in order") {
  const TemporaryFolder folder;
  put(folder / "log", "before\n");
  system_write = write_until_full;
  LogFile file(folder / "log");
  CHECK(file.append("one\n"));
  full = true;
  CHECK_FALSE(file.append("two\n"));
  CHECK(file.problem() == (folder / "log").string() + ": No space left on device");
  CHECK_FALSE(file.append("three\n"));
  CHECK(read_file(folder / "log").starts_with("before\none\nt"));
  full = false;
  CHECK(file.append("four\n"));
  system_write = ::write;
  CHECK(file.problem() == "");
  CHECK(read_file(folder / "log") == "before\none\ntwo\nthree\nfour\n");
}

TEST_CASE("log file: one that cannot be opened, or must be new, is an error") {
  const TemporaryFolder folder;
  CHECK(contains(error_of(ExitCode::failure, [&] { LogFile(folder / "no/log"); }), "No such file"));
  put(folder / "log", "of somebody");
  CHECK(contains(
      error_of(ExitCode::failure, [&] { LogFile(folder / "log", LogFile::Open::create_new); }),
      "File exists"));
  CHECK(read_file(folder / "log") == "of somebody");
}
