// Which rank is to blame when a run of several processes ends.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "core/error.h"

namespace sg::dist {

// The exit code of ranks that were not started alike, to the launcher alone: they would not be the
// next time. To all others it is ExitCode::peer.
inline constexpr auto kNotAlike = ExitCode(76);

// How one rank ended.
struct RankEnd {
  int status = 0;        // as waitpid() gives it
  int order = 0;         // of the ends
  bool late = false;     // it did not end with the others, and the launcher ended it
  bool stopped = false;  // it was stopped then, by SIGSTOP
  bool stuck = false;    // and is there still: it waits in the kernel
};

struct Outcome {
  ExitCode code = ExitCode::ok;  // of the launcher; 128 + n after signal n
  std::vector<int> blamed;       // ranks; none where nothing failed, or each blames another
  bool may_restart = false;      // it failed for a reason that may be gone the next time
};

// `signal` is the last that was passed on to the ranks, 0 if none. To blame is the first rank that
// failed for a reason of its own: by a signal, or an exit code other than 0 (done), 75 (saved) and
// 5 (another was lost). Where there is none, those that did not end are. Nobody is where the ranks
// were not started alike.
Outcome judge(std::span<const RankEnd> ends, int signal);

// "was killed by SIGKILL: kill -9, or the kernel for want of memory",
// "ended with exit code 3 (data)".
std::string describe(const RankEnd& end);

}  // namespace sg::dist
