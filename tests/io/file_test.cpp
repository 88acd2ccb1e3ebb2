#include "io/file.h"

#include <sys/stat.h>

#include <cerrno>
#include <csignal>

#include "tests/support/files.h"
#include "tests/support/process.h"

using namespace sg;
using namespace sg::test;
namespace fs = std::filesystem;

namespace {

size_t files_in(const fs::path& folder) {
  return size_t(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

// Replaces the system's write for one scope.
struct Inject {
  explicit Inject(ssize_t (*f)(int, const void*, size_t)) { system_write = f; }
  ~Inject() { system_write = ::write; }
};

}  // namespace

TEST_CASE("a file is replaced as a whole, and only by commit") {
  const TemporaryFolder folder;
  const fs::path path = folder / "a.txt";
  write_file(path, "old");
  {
    AtomicFile file(path);
    file.write("half of the ne");
  }
  CHECK(read_file(path) == "old");
  write_file(path, std::string(3'000'000, 'x'));
  CHECK(read_file(path) == std::string(3'000'000, 'x'));
  CHECK(files_in(folder.path()) == 1);
}

TEST_CASE("a file of the temporary name is not written over") {
  const TemporaryFolder folder;
  const fs::path probe = folder / "probe";
  fs::path next;  // the name that the next file will try first
  {
    const AtomicFile file(probe);
    const std::string name = fs::directory_iterator(folder.path())->path().filename().string();
    CHECK(AtomicFile::unfinished_of(name) == "probe");
    const size_t dot = name.rfind('.');
    next = folder / (name.substr(0, dot + 1) + std::to_string(std::stoi(name.substr(dot + 1)) + 1));
  }
  put(next, "of a killed process");
  write_file(probe, "new");
  CHECK(read_file(probe) == "new");
  CHECK(read_file(next) == "of a killed process");
  CHECK(AtomicFile::unfinished_of("a.unfinished.1.2") == "a");
  CHECK(AtomicFile::unfinished_of("a.unfinished.link") == "a");
  CHECK(AtomicFile::unfinished_of("a.unfinished.draft") == "");
  CHECK(AtomicFile::unfinished_of("a") == "");
}

TEST_CASE("short writes and interrupted calls are taken up again") {
  const TemporaryFolder folder;
  const Inject inject([](int fd, const void* data, size_t bytes) -> ssize_t {
    static int calls = 0;
    if (++calls % 2) {
      errno = EINTR;
      return -1;
    }
    return ::write(fd, data, std::min<size_t>(bytes, 7));
  });
  std::string text;
  for (int i = 0; i < 1000; ++i) text += std::to_string(i);
  write_file(folder / "a", text);
  CHECK(read_file(folder / "a") == text);
}

TEST_CASE("a write that fails names path, bytes and reason, and leaves the old file") {
  const TemporaryFolder folder;
  write_file(folder / "a", "old");
  const auto fails_with = [&](ssize_t (*f)(int, const void*, size_t)) {
    const Inject inject(f);
    const std::string message = error_of(
        ExitCode::checkpoint, [&] { write_file(folder / "a", "12345678", ExitCode::checkpoint); });
    CHECK(contains(message, (folder / "a").string()));
    CHECK(contains(message, "after 5 bytes"));
    CHECK(read_file(folder / "a") == "old");
    CHECK(files_in(folder.path()) == 1);
    return message;
  };
  const std::string full = fails_with([](int fd, const void* data, size_t bytes) -> ssize_t {
    if (bytes == 8) return ::write(fd, data, 5);
    static const int device = ::open("/dev/full", O_WRONLY);
    return ::write(device, data, bytes);  // the system's own ENOSPC
  });
  CHECK(contains(full, "No space left on device; free some space"));
  const std::string broken = fails_with([](int fd, const void* data, size_t bytes) -> ssize_t {
    if (bytes == 8) return ::write(fd, data, 5);
    errno = EIO;
    return -1;
  });
  CHECK(contains(broken, "Input/output error"));
  const std::string limited = fails_with([](int fd, const void* data, size_t bytes) -> ssize_t {
    if (bytes == 8) return ::write(fd, data, 5);
    errno = EFBIG;
    return -1;
  });
  CHECK(contains(limited, "File too large; raise the limit of this process (ulimit -f)"));
}

TEST_CASE("a full and a read-only disk leave the old file") {
  const TemporaryFolder folder;
  const pid_t child = start_child([&] {
    if (!mount_disk(folder.path(), 64 << 10)) return kNoMount;
    write_file(folder / "a", "old");
    const std::string full =
        error_of(ExitCode::failure, [&] { write_file(folder / "a", std::string(100'000, 'x')); });
    if (!contains(full, "No space left") || read_file(folder / "a") != "old") return 1;
    if (files_in(folder.path()) != 1 || !make_read_only(folder.path())) return 2;
    const std::string message =
        error_of(ExitCode::failure, [&] { write_file(folder / "a", "new"); });
    if (!contains(message, "Read-only file system")) return 3;
    const std::string lock = error_of(ExitCode::usage, [&] { FolderLock held(folder.path()); });
    return contains(lock, "Read-only") && read_file(folder / "a") == "old" ? 0 : 4;
  });
  const int code = wait_for(child);
  if (code == kNoMount)
    skip("this user may not mount a disk");
  else
    CHECK(code == 0);
}

TEST_CASE("what cannot be read is an error") {
  const TemporaryFolder folder;
  CHECK(contains(error_of(ExitCode::data, [&] { read_file(folder / "no", ExitCode::data); }),
                 "No such file"));
  CHECK(contains(error_of(ExitCode::failure, [&] { read_file(folder.path()); }), "a folder"));
  ::mkfifo((folder / "pipe").c_str(), 0666);
  CHECK(contains(error_of(ExitCode::failure, [&] { read_file(folder / "pipe"); }), "pipe"));
  put(folder / "a", "12345678");
  const InputFile file(folder / "a");
  fs::resize_file(folder / "a", 3);  // cut while it is open
  char buffer[8];
  CHECK(contains(error_of(ExitCode::failure, [&] { file.read(0, buffer, 8); }),
                 "the file ends after 3 of them"));
}

TEST_CASE("a folder has one writer at a time, until it dies") {
  const TemporaryFolder folder;
  {
    const FolderLock held(folder / "out");
    const std::string message =
        error_of(ExitCode::usage, [&] { FolderLock second(folder / "out"); });
    CHECK(contains(message, "another run is writing here"));
    CHECK(wait_for(start_child([&] {
            try {
              const FolderLock third(folder / "out");
            } catch (const Error&) {
              return 0;
            }
            return 1;
          })) == 0);
  }
  int ready[2];
  REQUIRE(::pipe(ready) == 0);
  const pid_t child = start_child([&] {
    const FolderLock held(folder / "out");
    if (::write(ready[1], "x", 1) == 1) ::pause();
    return 0;
  });
  char byte;
  REQUIRE(::read(ready[0], &byte, 1) == 1);
  CHECK_THROWS_AS(FolderLock(folder / "out"), Error);
  ::kill(child, SIGKILL);
  CHECK(wait_for(child) == 128 + SIGKILL);
  const FolderLock free_again(folder / "out");
}
