// A disk on which checkpoints take long, by LD_PRELOAD: fsync() of them sleeps for some seconds.
#include <dlfcn.h>
#include <unistd.h>

#include <filesystem>
#include <string>

extern "C" int fsync(int fd) {
  std::error_code none;
  const auto link = std::filesystem::path("/proc/self/fd") / std::to_string(fd);
  const std::string name = std::filesystem::read_symlink(link, none);
  if (name.find(".safetensors") != name.npos) ::sleep(4);
  return reinterpret_cast<int (*)(int)>(::dlsym(RTLD_NEXT, "fsync"))(fd);
}
