// What fuzz targets share. A target is one function of bytes; libFuzzer calls it (clang, preset
// "fuzz"), and so does driver.cpp as an ordinary test.
#pragma once
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <span>
#include <string>

#include "core/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace sg::test {

// An Error with this code is a proper end of `f`; another code is a bug, and so is any other
// exception, which nobody catches.
template <class F>
void value_or_error(ExitCode code, F&& f) {
  try {
    f();
  } catch (const Error& e) {
    if (e.code() == code) return;
    std::fprintf(stderr, "exit code %d: %s\n", int(e.code()), e.what());
    std::abort();
  }
}

// A file of these bytes that lies in memory.
class MemoryFile {
 public:
  explicit MemoryFile(std::span<const uint8_t> bytes) : fd_(::memfd_create("fuzz", 0)) {
    if (fd_ < 0 || ::write(fd_, bytes.data(), bytes.size()) != ssize_t(bytes.size())) std::abort();
  }
  ~MemoryFile() { ::close(fd_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  std::filesystem::path path() const { return "/proc/self/fd/" + std::to_string(fd_); }

 private:
  int fd_;
};

}  // namespace sg::test
