#include "dist/blame.h"

#include <fmt/format.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "dist/stop_signals.h"

namespace sg::dist {
namespace {

enum class Kind { done, saved, signalled, follower, late, unlike, failed };

bool stops(int signal) { return std::ranges::find(kStopSignals, signal) != std::end(kStopSignals); }

Kind kind_of(const RankEnd& end, bool signalled) {
  const bool follows = WIFEXITED(end.status) && ExitCode(WEXITSTATUS(end.status)) == ExitCode::peer;
  if (end.late && !follows) return Kind::late;
  if (WIFSIGNALED(end.status))  // by one that we passed on: the rank was not yet ready to take it
    return signalled && stops(WTERMSIG(end.status)) ? Kind::signalled : Kind::failed;
  switch (const int code = WEXITSTATUS(end.status); ExitCode(code)) {
    case ExitCode::ok:
      return Kind::done;
    case ExitCode::interrupted:
      return Kind::saved;
    case ExitCode::peer:
      return Kind::follower;
    default:
      if (ExitCode(code) == kNotAlike) return Kind::unlike;
      return signalled && stops(code - 128) ? Kind::signalled : Kind::failed;
  }
}

std::string name_of_signal(int signal) {
  const char* name = ::sigabbrev_np(signal);
  return name ? fmt::format("SIG{}", name) : fmt::format("signal {}", signal);
}

std::string words_of_code(int code) {
  switch (ExitCode(code)) {
    case ExitCode::failure:
      return " (failure)";
    case ExitCode::usage:
      return " (usage)";
    case ExitCode::data:
      return " (data)";
    case ExitCode::checkpoint:
      return " (checkpoint)";
    case ExitCode::peer:
      return " (another rank was lost)";
    case ExitCode::nonfinite:
      return " (non-finite numbers)";
    case ExitCode::interrupted:
      return " (interrupted and saved)";
    default:
      if (ExitCode(code) == kNotAlike) return " (not started alike)";
      return code > 128 ? fmt::format(" ({})", name_of_signal(code - 128)) : "";
  }
}

}  // namespace

Outcome judge(std::span<const RankEnd> ends, int signal) {
  constexpr size_t kKinds = size_t(Kind::failed) + 1;
  std::array<std::vector<int>, kKinds> ranks;
  for (size_t r = 0; r < ends.size(); ++r)
    ranks[size_t(kind_of(ends[r], signal))].push_back(int(r));
  const auto all = [&](Kind kind) -> const std::vector<int>& { return ranks[size_t(kind)]; };
  const auto any = [&](Kind kind) { return !all(kind).empty(); };

  // Not against the user's wish, nor beside a process that may hold the folder of the run.
  const bool may_restart = !signal && std::ranges::none_of(ends, &RankEnd::stuck);

  if (any(Kind::failed)) {
    const auto order = [&](int r) { return ends[size_t(r)].order; };
    const int first = *std::ranges::min_element(all(Kind::failed), {}, order);
    const int status = ends[size_t(first)].status;
    const ExitCode code = WIFSIGNALED(status) ? ExitCode::peer : ExitCode(WEXITSTATUS(status));
    const bool may_differ = code == ExitCode::peer || code == ExitCode::failure;
    return {.code = code, .blamed = {first}, .may_restart = may_restart && may_differ};
  }
  if (any(Kind::unlike)) return {.code = ExitCode::peer};
  // Rank 0 writes the checkpoints: it knows.
  if (kind_of(ends[0], signal) == Kind::saved) return {.code = ExitCode::interrupted};
  if (any(Kind::signalled)) return {.code = ExitCode(128 + signal)};
  if (any(Kind::late) || any(Kind::follower))
    return {.code = ExitCode::peer, .blamed = all(Kind::late), .may_restart = may_restart};
  return {.code = any(Kind::saved) ? ExitCode::interrupted : ExitCode::ok};
}

std::string describe(const RankEnd& end) {
  if (end.stuck) return "does not end, not even by SIGKILL: it waits in the kernel";
  if (end.late)
    return end.stopped ? "is stopped (by SIGSTOP; kill -CONT lets one go on)" : "did not end";
  if (WIFSIGNALED(end.status)) {
    const int n = WTERMSIG(end.status);
    return fmt::format("was killed by {}: {}", name_of_signal(n),
                       n == SIGKILL ? "kill -9, or the kernel for want of memory" : ::strsignal(n));
  }
  const int code = WEXITSTATUS(end.status);
  return fmt::format("ended with exit code {}{}", code, words_of_code(code));
}

}  // namespace sg::dist
