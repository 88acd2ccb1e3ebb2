#include "dist/launcher.h"

#include <poll.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <optional>

#include "core/cpu/cores.h"
#include "core/text.h"
#include "dist/blame.h"
#include "dist/rank_output.h"
#include "dist/rank_process.h"
#include "dist/socket.h"
#include "dist/standing.h"
#include "dist/stop_signals.h"

namespace sg::dist {
namespace {

constexpr const char* kLauncher = "SG_LAUNCHER";

// No deadline.
constexpr Clock::time_point kNever = Clock::time_point::max();
Clock::time_point after(Seconds s) {
  return Clock::now() + std::chrono::duration_cast<Clock::duration>(s);
}

// When the file was written; none where there is no such.
std::optional<std::filesystem::file_time_type> time_of(const std::string& file) {
  std::error_code absent;
  const auto time = std::filesystem::last_write_time(file, absent);
  return absent ? std::nullopt : std::optional(time);
}

// Signals that end a run, and the ends of children, as something to read.
class Signals {
 public:
  Signals() {
    sigset_t taken;
    ::sigemptyset(&taken);
    ::signal(SIGCHLD, SIG_DFL);  // where it is ignored, no child has an exit code
    ::sigaddset(&taken, SIGCHLD);
    for (const int s : kStopSignals) {
      struct sigaction now {};
      ::sigaction(s, nullptr, &now);
      if (s != SIGHUP || now.sa_handler != SIG_IGN) ::sigaddset(&taken, s);  // nohup
    }
    ::pthread_sigmask(SIG_BLOCK, &taken, &before_);
    fd_ = FileDescriptor(::signalfd(-1, &taken, SFD_NONBLOCK | SFD_CLOEXEC));
    check(fd_.get() >= 0, "--nproc-per-node: no descriptor of signals: {}", std::strerror(errno));
  }
  ~Signals() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  int fd() const { return fd_.get(); }
  const sigset_t& before() const { return before_; }
  // One that came, or 0.
  int next() {
    signalfd_siginfo info{};
    return ::read(fd_.get(), &info, sizeof info) == sizeof info ? int(info.ssi_signo) : 0;
  }

 private:
  sigset_t before_;
  FileDescriptor fd_;
};

std::string random_token() {
  uint64_t bits = 0;
  check(::getrandom(&bits, sizeof bits, 0) == sizeof bits, "--nproc-per-node: no random numbers");
  return fmt::format("{:016x}", bits);
}

// This process's environment with other values.
std::vector<std::string> environment_with(const std::map<std::string, std::string>& values) {
  std::vector<std::string> result;
  for (char** e = environ; *e; ++e) {
    const std::string_view variable = *e;
    if (!values.contains(std::string(variable.substr(0, variable.find('=')))))
      result.emplace_back(variable);
  }
  for (const auto& [name, value] : values) result.push_back(name + "=" + value);
  return result;
}

// Cores of one rank, of those in the order of their numbers; none where there is not one for each.
std::vector<int> share_of(const std::vector<int>& cores, int rank, int ranks) {
  if (cores.size() < size_t(ranks)) return {};
  const auto begin = [&](int r) {
    return cores.begin() + std::ptrdiff_t(cores.size()) * r / ranks;
  };
  return {begin(rank), begin(rank + 1)};
}

struct Rank {
  RankProcess process;
  RankOutput output;
  bool runs = true;
  RankEnd end{};
};

class Launcher {
 public:
  explicit Launcher(const LauncherSettings& settings) : settings_(settings) {}
  ~Launcher() {
    for (Rank& rank : ranks_)
      if (rank.runs) {
        ::kill(-rank.process.pid, SIGKILL);
        ::waitpid(rank.process.pid, nullptr, 0);
      }
  }
  Launcher(const Launcher&) = delete;
  Launcher& operator=(const Launcher&) = delete;

  ExitCode run();

 private:
  // All ranks, from their start to their end.
  Outcome run_once(int64_t restart, const LauncherStart& start);
  void start_all(int64_t restart, const LauncherStart& start);
  // Until something happens, or the time is up; takes what happened.
  void wait(Clock::time_point until);
  void take_signals();
  void take_output(Rank& rank);
  void take_ends();
  void end_late_ranks();
  bool running() const { return std::ranges::any_of(ranks_, &Rank::runs); }
  std::string name_of(int rank) const;
  std::string message(const Outcome& outcome) const;
  // `went_on`: it has saved a checkpoint.
  std::string advice(const Outcome& outcome, const LauncherStart& next, bool went_on) const;

  const LauncherSettings& settings_;
  Signals signals_;
  Screen screen_;
  const std::string job_ = random_token(), host_ = host_name();
  std::vector<Rank> ranks_;
  StopRequests requests_;
  int signal_ = 0;  // the last that was passed on
  int ended_ = 0;
  Clock::time_point time_is_up_ = kNever;  // for those that still run
  int told_ = 0;                           // the signal by which they were told to end
};

ExitCode Launcher::run() {
  Seconds pause{0};
  for (int64_t restart = 0;; ++restart) {
    const LauncherStart start = settings_.start(restart);
    const auto saved_before = time_of(start.checkpoint);
    const Outcome outcome = run_once(restart, start);
    if (outcome.code == ExitCode::ok || outcome.code == ExitCode::interrupted ||
        int(outcome.code) == 128 + signal_)
      return screen_.finish(), outcome.code;

    const std::string text = message(outcome);
    const LauncherStart next = settings_.start(restart + 1);
    const bool went_on = time_of(next.checkpoint) != saved_before;
    if (outcome.may_restart && restart < settings_.max_restarts) {
      const std::string from = next.checkpoint.empty() ? "the beginning" : next.checkpoint;
      const std::string warning =
          fmt::format("warning: {}\nall ranks start again from {}, restart {} of {}\n", text, from,
                      restart + 1, settings_.max_restarts);
      screen_.show(printable(escape_odd_bytes(warning)));
      pause = went_on ? Seconds(0) : std::clamp(2 * pause, settings_.backoff, Seconds(30));
      for (const auto until = after(pause); !signal_ && Clock::now() < until;) wait(until);
      if (!signal_) continue;
    }
    screen_.finish();
    throw Error(outcome.code, text + advice(outcome, next, went_on));
  }
}

Outcome Launcher::run_once(int64_t restart, const LauncherStart& start) {
  ended_ = 0, time_is_up_ = kNever, told_ = 0;
  start_all(restart, start);
  while (running()) {
    wait(time_is_up_);
    end_late_ranks();
  }
  std::vector<RankEnd> ends;
  for (const Rank& rank : ranks_) ends.push_back(rank.end);
  return judge(ends, signal_);
}

void Launcher::start_all(int64_t restart, const LauncherStart& start) {
  const int n = settings_.ranks;
  const FileDescriptor listener = listen_on_loopback();
  const std::vector<int> cores = cores_of_mask();
  std::map<std::string, std::string> variables{
      {"WORLD_SIZE", std::to_string(n)},
      {"LOCAL_WORLD_SIZE", std::to_string(n)},
      {"MASTER_ADDR", "127.0.0.1"},
      {"MASTER_PORT", std::to_string(port_of(listener.get()))},
      {kLauncher, "sgtrain"},
      {"SG_JOB", job_},
      {"SG_RESTART", std::to_string(restart)}};
  if (settings_.set_threads && !std::getenv("OMP_NUM_THREADS"))
    variables["OMP_NUM_THREADS"] = std::to_string(std::max(1, usable_cores().usable / n));
  const std::filesystem::path program =
      settings_.program.empty() ? own_program() : settings_.program;
  ranks_.clear();
  for (int r = 0; r < n; ++r) {
    variables["RANK"] = variables["LOCAL_RANK"] = std::to_string(r);
    if (r == 0)
      variables["SG_LISTENER"] = std::to_string(listener.get());
    else
      variables.erase("SG_LISTENER");
    RankProcess process = start_rank({.program = program,
                                      .arguments = start.command,
                                      .environment = environment_with(variables),
                                      .cores = share_of(cores, r, n),
                                      .listener = r == 0 ? listener.get() : -1,
                                      .keeps_output = r == 0,
                                      .signals = signals_.before()});
    const auto shown = r == 0 ? RankOutput::Shown::as_is : RankOutput::Shown::with_rank;
    ranks_.push_back({.process = std::move(process), .output = RankOutput(r, shown)});
  }
}

void Launcher::wait(Clock::time_point until) {
  std::vector<pollfd> fds{{.fd = signals_.fd(), .events = POLLIN},
                          {.fd = screen_.is_waiting() ? STDERR_FILENO : -1, .events = POLLOUT}};
  for (const Rank& rank : ranks_)
    fds.push_back({.fd = screen_.is_behind() ? -1 : rank.process.output.get(), .events = POLLIN});
  // A rank that is stopped does not say so: look now and then.
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(std::clamp(
      until - Clock::now(), Clock::duration(0), Clock::duration(std::chrono::seconds(1))));
  ::poll(fds.data(), fds.size(), until == kNever ? -1 : int(left.count()));
  screen_.write();
  take_signals();
  for (size_t r = 0; r < ranks_.size(); ++r)
    if (fds[r + 2].revents) take_output(ranks_[r]);
  take_ends();
}

void Launcher::take_signals() {
  while (const int s = signals_.next()) {
    if (s == SIGCHLD) continue;
    const auto request = requests_.next(s);
    if (request == StopRequests::Request::same) continue;
    signal_ = s;
    for (const Rank& rank : ranks_)
      if (rank.runs) ::kill(rank.process.pid, s);
    // A rank ends at once by the second one, unless it hangs.
    if (request == StopRequests::Request::second)
      time_is_up_ = std::min(time_is_up_, after(settings_.kill_after));
  }
}

void Launcher::take_output(Rank& rank) {
  char bytes[1 << 16];
  ssize_t n = 0;
  while ((n = ::read(rank.process.output.get(), bytes, sizeof bytes)) > 0) {
    screen_.show(rank.output.take({bytes, size_t(n)}));
    if (screen_.is_behind() && rank.runs) return;
  }
  if (n == 0 || !rank.runs) {  // closed, or nothing more will come
    screen_.show(rank.output.take_rest());
    rank.process.output = FileDescriptor();
  }
}

void Launcher::take_ends() {
  for (Rank& rank : ranks_) {
    int status = 0;
    if (!rank.runs || ::waitpid(rank.process.pid, &status, WNOHANG) != rank.process.pid) continue;
    rank.runs = false, rank.end.status = status, rank.end.order = ended_++;
    take_output(rank);
    const bool well = WIFEXITED(status) && (WEXITSTATUS(status) == int(ExitCode::ok) ||
                                            WEXITSTATUS(status) == int(ExitCode::interrupted));
    time_is_up_ =
        std::min(time_is_up_, after(well ? std::max(settings_.timeout, settings_.grace)
                                         : std::min(settings_.timeout, settings_.patience)));
  }
}

void Launcher::end_late_ranks() {
  if (time_is_up_ == kNever || !running()) return;
  const auto all_stopped = [&] {
    return std::ranges::all_of(ranks_,
                               [](const Rank& r) { return !r.runs || is_stopped(r.process.pid); });
  };
  if (Clock::now() < time_is_up_ && (told_ || !all_stopped())) return;
  const bool give_up = told_ == SIGKILL;
  const bool first = told_ == 0;
  told_ = first ? SIGTERM : SIGKILL;
  for (Rank& rank : ranks_) {
    if (!rank.runs) continue;
    rank.end.late = true;
    if (first) rank.end.stopped = is_stopped(rank.process.pid);
    ::kill(-rank.process.pid, rank.end.stopped ? SIGKILL : told_);
    if (give_up) rank.runs = false, rank.end.stuck = true, rank.end.order = ended_++;
  }
  const Seconds grace = std::min(settings_.timeout, settings_.grace);
  time_is_up_ = after(first ? std::max(grace, settings_.kill_after) : settings_.kill_after);
}

std::string Launcher::name_of(int rank) const {
  return fmt::format("rank {} (host {}, process {})", rank, host_,
                     ranks_[size_t(rank)].process.pid);
}

// Who is to blame, what it said last, and how the others ended.
std::string Launcher::message(const Outcome& outcome) const {
  std::string text;
  std::map<std::string, std::vector<int>> others;  // by how they ended
  int shown = -1;                                  // whose last lines
  for (int r = 0; r < int(ranks_.size()); ++r) {
    const RankEnd& end = ranks_[size_t(r)].end;
    if (std::ranges::find(outcome.blamed, r) == outcome.blamed.end()) {
      others[describe(end)].push_back(r);
      if (outcome.blamed.empty() && (shown < 0 || end.order < ranks_[size_t(shown)].end.order))
        shown = r;
      continue;
    }
    text += fmt::format("{}{} {}", text.empty() ? "" : "\n", name_of(r), describe(end));
    if (shown < 0) shown = r;
  }
  if (outcome.blamed.empty()) text = "no rank alone is to blame";
  for (const auto& [how, ranks] : others) text += fmt::format("\n{} {}", list_of(ranks), how);
  const auto& lines = ranks_[size_t(shown)].output.last_lines();
  if (!lines.empty()) text += fmt::format("\nlast lines of rank {}:", shown);
  for (const std::string& line : lines) text += "\n  " + line;
  return text;
}

std::string Launcher::advice(const Outcome& outcome, const LauncherStart& next,
                             bool went_on) const {
  std::string text;
  if (outcome.may_restart)
    text = signal_ ? "\nthe ranks do not start again, since a signal came"
           : settings_.max_restarts
               ? fmt::format("\nno restart is left of {}", settings_.max_restarts)
               : "\n--max-restarts N starts all ranks again by itself";
  // What failed before it went on would fail again, and so would what had no finite numbers: the
  // rank has said what to do.
  const bool helps =
      outcome.may_restart || signal_ || (went_on && outcome.code != ExitCode::nonfinite);
  if (helps && !next.checkpoint.empty())
    text += fmt::format("\ngo on from {} by: {}", next.checkpoint, shell_command(next.command));
  return text;
}

}  // namespace

ExitCode launch(const LauncherSettings& settings) { return Launcher(settings).run(); }

bool is_launched() {
  const char* launcher = std::getenv(kLauncher);
  return launcher && std::string_view(launcher) == "sgtrain";
}

}  // namespace sg::dist
