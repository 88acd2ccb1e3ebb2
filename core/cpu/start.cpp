// What must be so before the libraries start: it runs ahead of their constructors, and of main.
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "core/cpu/cores.h"

namespace sg {
namespace {

constexpr rlim_t kMinAddressSpace = kAddressSpace + kAddressSpaceOfThread;

// Turns of a waiting thread before it sleeps: some microseconds, which outlast the gaps within a
// step. Without end, as is libgomp's way, threads that wait take the cores from those that compute
// wherever there are more threads than free cores.
char spin_count[] = "GOMP_SPINCOUNT=1000";

void say(const char* text) { (void)!::write(STDERR_FILENO, text, std::strlen(text)); }

void say(rlim_t n) {
  char digits[24], *end = digits + sizeof digits - 1, *p = end;
  *end = 0;
  do *--p = char('0' + n % 10);
  while (n /= 10);
  say(p);
}

bool is_set(char** environment, const char* name) {
  const size_t n = std::strlen(name);
  for (char** e = environment; *e; ++e)
    if (std::strncmp(*e, name, n) == 0 && (*e)[n] == '=') return true;
  return false;
}

// libgomp reads the variable when it starts, and by then only another start of the same program can
// set it: the C library has not taken up the environment here.
void set_spin_count(char** arguments, char** environment) {
  if (is_set(environment, "GOMP_SPINCOUNT") || is_set(environment, "OMP_WAIT_POLICY")) return;
  size_t n = 0;
  while (environment[n]) ++n;
  constexpr size_t kMaxVariables = 4096;
  static char* with_count[kMaxVariables];
  if (n + 2 > kMaxVariables) return;
  std::memcpy(with_count, environment, n * sizeof(char*));
  with_count[n] = spin_count;
  // By the file's own name, which ps and pkill show. Where that fails, for want of /proc, the
  // program is only less polite.
  static char file[4096];
  const ssize_t length = ::readlink("/proc/self/exe", file, sizeof file - 1);
  if (length > 0) ::syscall(SYS_execve, file, arguments, with_count);
}

void before_libraries(int, char** arguments, char** environment) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur < kMinAddressSpace) {
    say("error: this process may use "), say(limit.rlim_cur >> 20);
    say(" MiB of address space; SG-Former needs at least "), say(kMinAddressSpace >> 20);
    say(" MiB: raise the limit (ulimit -v)\n");
    ::_exit(1);
  }
  set_spin_count(arguments, environment);
}

[[gnu::section(".preinit_array"), gnu::used]] void (*const hook)(int, char**,
                                                                 char**) = before_libraries;

}  // namespace
}  // namespace sg
