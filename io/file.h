// Files read and written without surprises: every error names the path and the system's reason.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "core/error.h"

namespace sg {

// An open file descriptor, closed at the end of its life.
class FileDescriptor {
 public:
  explicit FileDescriptor(int fd = -1) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& o) noexcept : fd_(std::exchange(o.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& o) noexcept {
    std::swap(fd_, o.fd_);
    return *this;
  }
  ~FileDescriptor();
  int get() const { return fd_; }

 private:
  int fd_;
};

// A regular file, open for reading. All errors carry `code`.
class InputFile {
 public:
  explicit InputFile(std::filesystem::path path, ExitCode code = ExitCode::failure);
  const std::filesystem::path& path() const { return path_; }
  ExitCode code() const { return code_; }
  uint64_t size() const { return size_; }
  // Reads all of [offset, offset + bytes) or throws.
  void read(uint64_t offset, void* to, size_t bytes) const;

 private:
  std::filesystem::path path_;
  ExitCode code_;
  FileDescriptor fd_;
  uint64_t size_ = 0;
};

std::string read_file(const std::filesystem::path& path, ExitCode code = ExitCode::failure);

// A file that appears at its path whole or not at all: it is written beside, synced, renamed, and
// the folder synced. Without commit() the destructor removes what was written.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path, ExitCode code = ExitCode::failure);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  // `verify` reads the finished file back before it takes its name; where it throws, the old stays.
  void commit(const std::function<void(const std::filesystem::path&)>& verify = {});
  // Without a sync, for what can be made again: fast, but a power cut may leave it empty.
  void commit_unsynced();

  // What the name of an unfinished file contains: "last.safetensors.unfinished.<process>.<number>".
  static constexpr std::string_view kUnfinished = ".unfinished.";
  // "last.safetensors" for such a name, which a killed process may have left; else "".
  static std::string_view unfinished_of(std::string_view name);

 private:
  void rename();
  [[noreturn]] void failed(std::string_view what, int error) const;

  std::filesystem::path path_, temporary_;
  ExitCode code_;
  FileDescriptor fd_;
  uint64_t written_ = 0;
  bool committed_ = false;
};

void write_file(const std::filesystem::path& path, std::string_view text,
                ExitCode code = ExitCode::failure);

// `path` becomes a further name of `existing`, at once: a hard link, or where the file system has
// none, a copy.
void replace_with_link(const std::filesystem::path& existing, const std::filesystem::path& path,
                       ExitCode code = ExitCode::failure);

// Makes a rename or removal inside `folder` survive a power cut.
void sync_folder(const std::filesystem::path& folder, ExitCode code = ExitCode::failure);

// The right to write into a folder, which is created if needed. A second holder, in this process
// or another, is refused with ExitCode::usage; the death of the holder sets the folder free.
class FolderLock {
 public:
  explicit FolderLock(const std::filesystem::path& folder);

 private:
  FileDescriptor fd_;
};

// The system's write, replaced by tests that inject short writes and errors.
extern ssize_t (*system_write)(int fd, const void* data, size_t bytes);

}  // namespace sg
