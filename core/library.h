// A shared library that is opened when it is first needed: programs start without it, and run
// where it is absent until they use it.
#pragma once
#include <string>
#include <vector>

namespace sg {

struct LibraryName {
  std::string file;                  // "libavif.so.15"
  std::string purpose;               // "reading AVIF images"
  std::vector<std::string> folders;  // looked through after the system's own
  std::string advice;                // how to get it, as part of a message
};

class Library {
 public:
  // Throws ExitCode::usage naming the library, where it was looked for, and what to do.
  explicit Library(const LibraryName& name);
  Library(const Library&) = delete;  // stays open until the program ends
  Library& operator=(const Library&) = delete;

  // library.function<decltype(f)>("f"). Throws ExitCode::usage where the library has none.
  template <class F>
  F* function(const char* name) const {
    return reinterpret_cast<F*>(symbol(name));
  }
  const std::string& path() const { return path_; }

 private:
  void* symbol(const char* name) const;

  void* handle_ = nullptr;
  std::string path_;
};

}  // namespace sg
