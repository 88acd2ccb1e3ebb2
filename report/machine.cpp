#include <sys/utsname.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "core/cpu/parallel.h"
#include "core/error.h"
#include "report/report.h"

namespace sg::report {
namespace {

// The first line "key : value" of a file under /proc.
std::string proc_value(const char* path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(key)) {
      const size_t colon = line.find(':');
      const size_t at =
          colon == std::string::npos ? colon : line.find_first_not_of(" \t", colon + 1);
      if (at != std::string::npos) return line.substr(at);
    }
  return "unknown";
}

}  // namespace

std::vector<std::pair<std::string, std::string>> machine() {
  utsname system{};
  ::uname(&system);
  const double memory = double(::sysconf(_SC_PHYS_PAGES)) * double(::sysconf(_SC_PAGESIZE));
  return {{"Processor", proc_value("/proc/cpuinfo", "model name")},
          {"Cores", fmt::format("{}, {} used to compute", std::thread::hardware_concurrency(),
                                num_threads())},
          {"Memory", fmt::format("{:.1f} GiB", memory / (1 << 30))},
          {"System", fmt::format("{} {}, {}", system.sysname, system.release, system.machine)},
          {"Host", system.nodename},
          {"Program", fmt::format("sgtrain {}", SG_VERSION)}};
}

}  // namespace sg::report
