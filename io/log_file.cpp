#include "io/log_file.h"

#include <fcntl.h>

#include <cerrno>
#include <cstring>

namespace sg {

LogFile::LogFile(std::filesystem::path path, Open how)
    : path_(std::move(path)),
      fd_(::open(path_.c_str(),
                 O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | (how == Open::create_new ? O_EXCL : 0),
                 0666)) {
  if (!is_open())
    fail(ExitCode::failure, "{}: cannot be written: {}", path_.string(), std::strerror(errno));
}

bool LogFile::append(std::string_view bytes) {
  waiting_ += bytes;
  size_t done = 0;
  while (done < waiting_.size()) {
    const ssize_t n = system_write(fd_.get(), waiting_.data() + done, waiting_.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      problem_ = fmt::format("{}: {}", path_.string(), std::strerror(n < 0 ? errno : ENOSPC));
      break;
    }
    done += size_t(n);
  }
  waiting_.erase(0, done);
  if (waiting_.empty()) problem_.clear();
  return waiting_.empty();
}

}  // namespace sg
