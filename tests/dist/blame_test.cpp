// Who is to blame, for every way in which ranks end.
#include "dist/blame.h"

#include <doctest/doctest.h>
#include <signal.h>

#include <csignal>

using namespace sg;
using namespace sg::dist;

namespace {

RankEnd exits(int code, int order = 0) { return {.status = code << 8, .order = order}; }
RankEnd killed(int signal, int order = 0) { return {.status = signal, .order = order}; }
RankEnd late(int signal = SIGTERM) { return {.status = signal, .late = true}; }

struct Case {
  const char* what;
  std::vector<RankEnd> ends;
  int signal;
  int code;
  std::vector<int> blamed;
  bool may_restart;
};

const Case kCases[] = {
    {"all are done", {exits(0), exits(0)}, 0, 0, {}, false},
    {"all have saved", {exits(75), exits(75)}, SIGTERM, 75, {}, false},
    {"saved, asked by others than the launcher", {exits(75), exits(75)}, 0, 75, {}, false},
    {"one killed, others lost it", {exits(5), killed(SIGKILL), exits(5)}, 0, 5, {1}, true},
    {"one failed, others lost it", {exits(5), exits(5), exits(1, 2)}, 0, 1, {2}, true},
    {"a fault", {killed(SIGSEGV), exits(5)}, 0, 5, {0}, true},
    {"usage", {exits(2, 1), exits(2)}, 0, 2, {1}, false},
    {"data", {exits(5), exits(3)}, 0, 3, {1}, false},
    {"checkpoint", {exits(4), exits(5)}, 0, 4, {0}, false},
    {"non-finite numbers", {exits(6), exits(6, 1)}, 0, 6, {0}, false},
    {"a code of its own", {exits(42), exits(5)}, 0, 42, {0}, false},
    {"the first of two", {killed(SIGKILL, 3), exits(3, 1), exits(5)}, 0, 3, {1}, false},
    {"one done, one failed", {exits(0), exits(1, 1)}, 0, 1, {1}, true},
    {"the others waited for one", {exits(5), late(), exits(5)}, 0, 5, {1}, true},
    {"two did not end", {exits(5), late(), late(SIGKILL)}, 0, 5, {1, 2}, true},
    {"ended late, as the launcher said", {killed(SIGKILL), late(), exits(5)}, 0, 5, {0}, true},
    {"done, and one hangs at its end", {exits(0), late()}, 0, 5, {1}, true},
    {"each lost another", {exits(5), exits(5)}, 0, 5, {}, true},
    {"flags or data differ", {exits(76), exits(76, 1)}, 0, 5, {}, false},
    {"one was killed before it heard", {exits(76), killed(SIGKILL, 1)}, 0, 5, {1}, true},
    {"one cannot be killed", {exits(5), {.late = true, .stuck = true}}, 0, 5, {1}, false},
    {"beside a failure", {exits(1), {.late = true, .stuck = true}}, 0, 1, {0}, false},
    // Signals of the user.
    {"before the first step",
     {exits(128 + SIGTERM), exits(128 + SIGTERM)},
     SIGTERM,
     143,
     {},
     false},
    {"before the program took it", {killed(SIGINT), exits(130)}, SIGINT, 130, {}, false},
    {"one was ahead", {exits(143), exits(5)}, SIGTERM, 143, {}, false},
    {"saved, then the others were ended", {exits(75), exits(143)}, SIGTERM, 75, {}, false},
    {"ended within the save", {exits(143), exits(75)}, SIGTERM, 143, {}, false},
    {"the save failed", {exits(4), exits(5)}, SIGTERM, 4, {0}, false},
    {"failed at once with it", {exits(5), killed(SIGKILL)}, SIGUSR1, 5, {1}, false},
    {"one hangs", {exits(5), late()}, SIGTERM, 5, {1}, false},
    {"saved, and one hangs", {exits(75), late()}, SIGTERM, 75, {}, false},
    {"it came after the end", {exits(0), exits(0)}, SIGTERM, 0, {}, false},
    {"not by the launcher", {exits(143), exits(5)}, 0, 143, {0}, false},
    {"others than those", {exits(128 + SIGSEGV), exits(5)}, SIGTERM, 139, {0}, false},
};

}  // namespace

TEST_CASE("launcher: the first that failed for a reason of its own is to blame") {
  for (const Case& c : kCases) {
    CAPTURE(c.what);
    const Outcome outcome = judge(c.ends, c.signal);
    CHECK(int(outcome.code) == c.code);
    CHECK(outcome.blamed == c.blamed);
    CHECK(outcome.may_restart == c.may_restart);
  }
}

TEST_CASE("launcher: how a rank ended, in words") {
  CHECK(describe(killed(SIGKILL)) ==
        "was killed by SIGKILL: kill -9, or the kernel for want of memory");
  CHECK(describe(killed(SIGSEGV)) == "was killed by SIGSEGV: Segmentation fault");
  CHECK(describe(exits(0)) == "ended with exit code 0");
  CHECK(describe(exits(3)) == "ended with exit code 3 (data)");
  CHECK(describe(exits(5)) == "ended with exit code 5 (another rank was lost)");
  CHECK(describe(exits(76)) == "ended with exit code 76 (not started alike)");
  CHECK(describe(exits(143)) == "ended with exit code 143 (SIGTERM)");
  CHECK(describe(exits(42)) == "ended with exit code 42");
  CHECK(describe(late()) == "did not end");
}
