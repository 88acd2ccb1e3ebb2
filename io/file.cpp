#include "io/file.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

namespace sg {

ssize_t (*system_write)(int, const void*, size_t) = ::write;

namespace {

// Calls again while a signal interrupts.
template <class F>
auto retry(F&& call) {
  decltype(call()) result;
  do result = call();
  while (result < 0 && errno == EINTR);
  return result;
}

std::string reason(int error) { return std::strerror(error); }

// Beside `path`, another one at each call. A process of the same number, on another machine or in
// another container, may have left such a file: the caller tries the next where it exists.
std::string temporary_name(const std::filesystem::path& path) {
  static std::atomic<int> counter = 0;
  return fmt::format("{}{}{}.{}", path.string(), AtomicFile::kUnfinished, ::getpid(), counter++);
}

std::string advice(int error) {
  if (error == ENOSPC || error == EDQUOT) return "; free some space or choose another folder";
  return error == EFBIG ? "; raise the limit of this process (ulimit -f)" : "";
}

}  // namespace

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) ::close(fd_);
}

InputFile::InputFile(std::filesystem::path path, ExitCode code)
    : path_(std::move(path)),
      code_(code),
      // Without O_NONBLOCK a named pipe would wait for a writer.
      fd_(retry([&] { return ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK); })) {
  struct stat info;
  if (fd_.get() < 0 || ::fstat(fd_.get(), &info) != 0)
    fail(code_, "{}: cannot be opened for reading: {}", path_.string(), reason(errno));
  if (!S_ISREG(info.st_mode))
    fail(code_, "{}: expected a file, found {}", path_.string(),
         S_ISDIR(info.st_mode) ? "a folder" : "a device or pipe");
  size_ = uint64_t(info.st_size);
}

void InputFile::read(uint64_t offset, void* to, size_t bytes) const {
  for (size_t done = 0; done < bytes;) {
    const ssize_t n = retry([&] {
      return ::pread(fd_.get(), static_cast<char*>(to) + done, bytes - done, off_t(offset + done));
    });
    if (n <= 0)
      fail(code_, "{}: reading {} bytes at byte {} failed: {}", path_.string(), bytes, offset,
           n < 0 ? reason(errno) : fmt::format("the file ends after {} of them", done));
    done += size_t(n);
  }
}

std::string read_file(const std::filesystem::path& path, ExitCode code) {
  const InputFile file(path, code);
  std::string text(file.size(), '\0');
  file.read(0, text.data(), text.size());
  return text;
}

AtomicFile::AtomicFile(std::filesystem::path path, ExitCode code)
    : path_(std::move(path)), code_(code) {
  do {
    temporary_ = temporary_name(path_);
    fd_ = FileDescriptor(retry(
        [&] { return ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666); }));
  } while (fd_.get() < 0 && errno == EEXIST);
  if (fd_.get() < 0) failed("cannot be created", errno);
}

AtomicFile::~AtomicFile() {
  if (!committed_ && fd_.get() >= 0) ::unlink(temporary_.c_str());
}

void AtomicFile::failed(std::string_view what, int error) const {
  fail(code_, "{}: {} after {} bytes: {}{}", path_.string(), what, written_, reason(error),
       advice(error));
}

std::string_view AtomicFile::unfinished_of(std::string_view name) {
  const size_t at = name.find(kUnfinished);
  if (at == std::string_view::npos) return "";
  const std::string_view rest = name.substr(at + kUnfinished.size());
  const bool numbers = rest.find_first_not_of("0123456789.") == std::string_view::npos &&
                       rest.find('.') != std::string_view::npos;
  return numbers || rest == "link" ? name.substr(0, at) : "";  // "link": of an earlier version
}

void AtomicFile::write(const void* data, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    const ssize_t n = retry([&] {
      return system_write(fd_.get(), static_cast<const char*>(data) + done, bytes - done);
    });
    if (n <= 0) failed("cannot be written", n < 0 ? errno : ENOSPC);
    done += size_t(n);
    written_ += uint64_t(n);
  }
}

void AtomicFile::commit(const std::function<void(const std::filesystem::path&)>& verify) {
  if (retry([&] { return ::fsync(fd_.get()); }) != 0) failed("cannot be synced", errno);
  if (verify) verify(temporary_);
  rename();
  sync_folder(path_.parent_path(), code_);
}

void AtomicFile::commit_unsynced() { rename(); }

void AtomicFile::rename() {
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) failed("cannot be renamed", errno);
  committed_ = true;
}

void write_file(const std::filesystem::path& path, std::string_view text, ExitCode code) {
  AtomicFile file(path, code);
  file.write(text);
  file.commit();
}

void replace_with_link(const std::filesystem::path& existing, const std::filesystem::path& path,
                       ExitCode code) {
  std::string link;
  int linked = 0;
  do {
    link = temporary_name(path);
    linked = ::link(existing.c_str(), link.c_str());
  } while (linked != 0 && errno == EEXIST);
  if (linked == 0) {
    const bool renamed = ::rename(link.c_str(), path.c_str()) == 0;
    const int error = errno;
    ::unlink(link.c_str());  // rename leaves it where path was that very file already
    if (!renamed) fail(code, "{}: cannot be replaced: {}", path.string(), reason(error));
    sync_folder(path.parent_path(), code);
    return;
  }
  const InputFile from(existing, code);
  AtomicFile to(path, code);
  std::string chunk;
  for (uint64_t done = 0; done < from.size(); done += chunk.size()) {
    chunk.resize(std::min<uint64_t>(from.size() - done, 1 << 20));
    from.read(done, chunk.data(), chunk.size());
    to.write(chunk);
  }
  to.commit();
}

void sync_folder(const std::filesystem::path& folder, ExitCode code) {
  const std::filesystem::path name = folder.empty() ? "." : folder;
  const FileDescriptor fd(
      retry([&] { return ::open(name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); }));
  // EINVAL: some network and FUSE file systems cannot sync a folder.
  if (fd.get() < 0 || (retry([&] { return ::fsync(fd.get()); }) != 0 && errno != EINVAL))
    fail(code, "{}: the folder cannot be synced: {}", name.string(), reason(errno));
}

FolderLock::FolderLock(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error)
    fail(ExitCode::usage, "{}: the folder cannot be created: {}; choose another folder",
         folder.string(), error.message());
  const std::filesystem::path path = folder / ".lock";
  fd_ = FileDescriptor(
      retry([&] { return ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666); }));
  if (fd_.get() < 0)
    fail(ExitCode::usage, "{}: the folder cannot be written: {}; choose another folder",
         folder.string(), reason(errno));
  if (retry([&] { return ::flock(fd_.get(), LOCK_EX | LOCK_NB); }) == 0) return;
  if (errno == EWOULDBLOCK)
    fail(ExitCode::usage, "{}: another run is writing here; stop it or choose another folder",
         folder.string());
  spdlog::warn("{}: this file system cannot lock ({}); make sure that no second run writes here",
               folder.string(), reason(errno));
}

}  // namespace sg
