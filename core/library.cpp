#include "core/library.h"

#include <dlfcn.h>

#include "core/error.h"

namespace sg {

Library::Library(const LibraryName& name) {
  std::vector<std::string> paths{name.file};
  for (const std::string& folder : name.folders) paths.push_back(folder + "/" + name.file);
  std::string reasons;
  for (const std::string& path : paths) {
    handle_ = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle_) {
      path_ = path;
      return;
    }
    const char* reason = dlerror();
    reasons += fmt::format("\n  {}", reason ? reason : path);
  }
  fail(ExitCode::usage, "{} needs the library {}, which could not be opened; {}. Tried:{}",
       name.purpose, name.file, name.advice, reasons);
}

void* Library::symbol(const char* name) const {
  dlerror();
  void* const found = dlsym(handle_, name);
  if (!found)
    fail(ExitCode::usage, "the library {} has no function {}: it is too old; install a newer one",
         path_, name);
  return found;
}

}  // namespace sg
