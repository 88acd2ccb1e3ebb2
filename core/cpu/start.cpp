// What must be so before the libraries start: it runs ahead of their constructors, and of main.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "core/cpu/cores.h"

namespace sg {
namespace {

constexpr rlim_t kMinAddressSpace = kAddressSpace + kAddressSpaceOfThread;

// Turns of a waiting thread before it sleeps: some tens of microseconds, which outlast the gaps
// within a step (1000 turns do not, and cost small models a tenth). Without end, as is libgomp's
// way, threads that wait take the cores from those that compute wherever there are more threads
// than free cores.
char spin_count[] = "GOMP_SPINCOUNT=10000";

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

// Whether the kernel runs this program's own file: under a loader that was called by name, valgrind
// or an emulator it runs theirs, and a second start would leave them out. Fields 26 and 27 of
// /proc/self/stat are where the code of the file that it runs begins and ends. Without /proc: no.
bool is_run_by_kernel(const void* own_code) {
  static char text[2048];
  const int file = ::open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  const ssize_t length = ::read(file, text, sizeof text - 1);
  ::close(file);
  if (length <= 0) return false;
  text[length] = 0;
  const char* at = std::strrchr(text, ')');  // of field 2, the name, which may hold spaces
  for (int field = 2; at && field < 26; ++field) at = std::strchr(at + 1, ' ');
  if (!at) return false;
  char* end = nullptr;
  const auto first = std::strtoull(at, &end, 10), last = std::strtoull(end, nullptr, 10);
  const auto address = uintptr_t(own_code);
  return first <= address && address < last;
}

// libgomp reads the variable when it starts, and by then only another start of the same program can
// set it: the C library has not taken up the environment here.
void set_spin_count(char** arguments, char** environment) {
  for (const char* name : {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "SG_NO_SECOND_START"})
    if (is_set(environment, name)) return;
  if (!is_run_by_kernel(reinterpret_cast<const void*>(&set_spin_count))) return;
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
