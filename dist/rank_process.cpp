#include "dist/rank_process.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>

namespace sg::dist {
namespace fs = std::filesystem;
namespace {

// As execve() takes them.
std::vector<char*> pointers(const std::vector<std::string>& words) {
  std::vector<char*> result;
  for (const std::string& word : words) result.push_back(const_cast<char*>(word.c_str()));
  result.push_back(nullptr);
  return result;
}

// As sched_setaffinity() takes them; empty for no cores.
std::vector<cpu_set_t> mask_of(const std::vector<int>& cores) {
  if (cores.empty()) return {};
  const size_t bytes = CPU_ALLOC_SIZE(size_t(std::ranges::max(cores)) + 1);
  std::vector<cpu_set_t> mask((bytes + sizeof(cpu_set_t) - 1) / sizeof(cpu_set_t));
  for (const int core : cores)
    CPU_SET_S(size_t(core), mask.size() * sizeof(cpu_set_t), mask.data());
  return mask;
}

}  // namespace

RankProcess start_rank(const RankCommand& command) {
  // All that the child needs is made before: after fork() it calls what a signal handler may.
  const std::vector<char*> arguments = pointers(command.arguments);
  const std::vector<char*> environment = pointers(command.environment);
  const std::vector<cpu_set_t> mask = mask_of(command.cores);
  const pid_t launcher = ::getpid();
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0)
    fail(ExitCode::failure, "--nproc-per-node: no pipe from a rank: {}", std::strerror(errno));
  FileDescriptor from(ends[0]), to(ends[1]);
  ::fcntl(from.get(), F_SETFL, O_NONBLOCK);
  const FileDescriptor nothing(::open("/dev/null", O_RDONLY | O_CLOEXEC));

  const pid_t pid = ::fork();
  if (pid < 0)
    fail(ExitCode::failure, "--nproc-per-node: no process for a rank: {}", std::strerror(errno));
  if (pid == 0) {
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);                            // stays over execve()
    if (::getppid() != launcher) ::_exit(int(ExitCode::failure));  // it had ended before
    ::signal(SIGTTOU, SIG_IGN);  // it writes to the terminal from another group than its own
    if (!mask.empty()) ::sched_setaffinity(0, mask.size() * sizeof(cpu_set_t), mask.data());
    ::dup2(nothing.get(), STDIN_FILENO);
    if (!command.keeps_output) ::dup2(to.get(), STDOUT_FILENO);
    ::dup2(to.get(), STDERR_FILENO);
    if (command.listener >= 0) ::fcntl(command.listener, F_SETFD, 0);
    ::sigprocmask(SIG_SETMASK, &command.signals, nullptr);
    ::execve(command.program.c_str(), arguments.data(), environment.data());
    ::dprintf(STDERR_FILENO, "error: %s cannot be started: %s\n", command.program.c_str(),
              ::strerrordesc_np(errno));
    ::_exit(int(ExitCode::failure));
  }
  ::setpgid(pid, pid);  // whoever of the two comes first
  return {.pid = pid, .output = std::move(from)};
}

bool is_stopped(pid_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  const std::string text(std::istreambuf_iterator<char>(file), {});
  const size_t name_end = text.rfind(") ");
  return name_end != text.npos && text[name_end + 2] == 'T';
}

fs::path own_program() {
  constexpr const char* kRunning = "/proc/self/exe";
  std::error_code error;
  const fs::path name = fs::read_symlink(kRunning, error);
  return !error && fs::equivalent(name, kRunning, error) ? name : fs::path(kRunning);
}

}  // namespace sg::dist
