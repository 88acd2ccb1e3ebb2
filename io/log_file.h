// A file that grows while a program runs, and that must not end it.
#pragma once
#include <filesystem>
#include <string>
#include <string_view>

#include "io/file.h"

namespace sg {

// What cannot be written, because the disk is full or a limit is reached, is kept in memory and
// written in order by a later append(): the file is then as if nothing had happened.
class LogFile {
 public:
  enum class Open { append, create_new };
  LogFile() = default;
  // Throws ExitCode::failure where the file cannot be opened, or `create_new` finds one.
  explicit LogFile(std::filesystem::path path, Open how = Open::append);

  // False where bytes are still waiting.
  bool append(std::string_view bytes);
  bool is_open() const { return fd_.get() >= 0; }
  // "<path>: <the system's reason>" while bytes are waiting, else "".
  const std::string& problem() const { return problem_; }

 private:
  std::filesystem::path path_;
  FileDescriptor fd_;
  std::string waiting_, problem_;
};

}  // namespace sg
