// The launcher itself, with shell scripts for ranks.
#include "dist/launcher.h"

#include <signal.h>

#include <algorithm>
#include <sstream>
#include <thread>

#include "core/cpu/cores.h"
#include "dist/stop_signals.h"
#include "tests/support/environment.h"
#include "tests/support/files.h"
#include "tests/support/process.h"

using namespace sg;
using namespace sg::test;
using dist::LauncherSettings;
using Clock = std::chrono::steady_clock;

namespace {

// Ranks that run `script`, and times that suit a test.
LauncherSettings ranks(int n, const std::string& script) {
  LauncherSettings s{.ranks = n};
  s.start = [script](int64_t) { return dist::LauncherStart{{"bash", "-c", script}, ""}; };
  s.timeout = LauncherSettings::Seconds(5), s.grace = LauncherSettings::Seconds(0.5);
  s.kill_after = s.backoff = LauncherSettings::Seconds(0.3);
  s.program = "/bin/bash";
  return s;
}

// A launcher as a process of its own, which ends as tools::run() lets a program end.
class Launched {
 public:
  explicit Launched(const LauncherSettings& settings, bool nohup = false) {
    put(folder_ / "out", ""), put(folder_ / "err", "");
    pid_ = start_child([&] {
      if (nohup) ::signal(SIGHUP, SIG_IGN);
      redirect("out", STDOUT_FILENO), redirect("err", STDERR_FILENO);
      try {
        return int(dist::launch(settings));
      } catch (const Error& e) {
        std::fprintf(stderr, "error: %s\n", e.what());
        return int(e.code());
      }
    });
  }
  ~Launched() {
    if (!finished_) signal(SIGKILL), finish();
  }
  Launched(const Launched&) = delete;
  Launched& operator=(const Launched&) = delete;
  pid_t pid() const { return pid_; }
  void signal(int s) const { ::kill(pid_, s); }
  // The exit code, 128 + n after signal n.
  int finish() {
    finished_ = true;
    return wait_for(pid_);
  }
  std::string out() const { return read_file(folder_ / "out"); }
  std::string err() const { return read_file(folder_ / "err"); }
  bool says(const std::string& text) const { return err().find(text) != std::string::npos; }
  // Until each rank has: they need not be as quick.
  bool are_ready(int ranks) const {
    bool all = true;
    for (int r = 0; r < ranks; ++r) all &= says_in_time(fmt::format("ready {}\n", r));
    return all;
  }
  bool says_in_time(const std::string& text) const {
    for (int i = 0; i < 1000 && !says(text); ++i) ::usleep(10'000);
    return says(text);
  }

 private:
  void redirect(const std::string& name, int fd) const {
    ::dup2(::open((folder_ / name).c_str(), O_WRONLY | O_APPEND), fd);
  }

  TemporaryFolder folder_;
  pid_t pid_;
  bool finished_ = false;
};

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

}  // namespace

TEST_CASE("launcher: what a rank is told, and what it has") {
  Launched l(ranks(3, R"(
    read x || eof=yes
    exec 9<>/dev/tcp/$MASTER_ADDR/$MASTER_PORT && connected=yes
    [[ $(readlink /proc/self/fd/$SG_LISTENER) == socket:* ]] && listens=yes
    echo $RANK $LOCAL_RANK $WORLD_SIZE $LOCAL_WORLD_SIZE $SG_LAUNCHER $SG_RESTART $eof $connected \
      ${SG_LISTENER:+listener} $listens $(ps -o pgid= $$ | tr -d ' ') $$ $SG_JOB
    sleep 0.3)"));
  CHECK(l.finish() == 0);
  std::vector<std::string> said = lines_of(l.err());
  said.push_back(l.out());
  REQUIRE(said.size() == 3);
  std::string job;
  for (const std::string& line : said) {
    std::string prefix, eof, connected, listener = "", listens = "", group, pid, token;
    int rank = 0, local = 0, size = 0, local_size = 0, restart = -1;
    std::string launcher;
    std::istringstream words(line);
    if (line[0] == '[') words >> prefix >> prefix;  // "[rank", "1]"
    words >> rank >> local >> size >> local_size >> launcher >> restart >> eof >> connected;
    if (rank == 0) words >> listener >> listens;
    words >> group >> pid >> token;
    CAPTURE(line);
    CHECK(prefix == (rank ? fmt::format("{}]", rank) : ""));
    CHECK(local == rank);
    CHECK((size == 3 && local_size == 3 && launcher == "sgtrain" && restart == 0));
    CHECK((eof == "yes" && connected == "yes"));
    CHECK(listens == (rank ? "" : "yes"));
    CHECK(group == pid);
    CHECK(token.size() == 16);
    CHECK((job.empty() || job == token));
    job = token;
  }
}

TEST_CASE("launcher: all end well, one after the other") {
  auto s = ranks(3, "[ $RANK = 0 ] && sleep 1.2; exit 0");
  s.timeout = LauncherSettings::Seconds(1), s.grace = LauncherSettings::Seconds(4);
  Launched l(s);
  CHECK(l.finish() == 0);
  CHECK(l.err().empty());
  CHECK(Launched(ranks(1, "exit 75")).finish() == 75);
}

TEST_CASE("launcher: the message names who failed, how, and what it said last") {
  Launched l(ranks(3, R"(
    if [ $RANK = 1 ]; then
      for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo "line $i"; done
      echo "error: no such image" >&2
      exit 3
    fi
    sleep 0.2; echo "rank 1 left"; exit 5)"));
  CHECK(l.finish() == 3);
  CHECK(l.says("error: rank 1 (host "));
  CHECK(
      l.says(") ended with exit code 3 (data)\nranks 0, 2 ended with exit code 5 (another rank was "
             "lost)\nlast lines of rank 1:\n  line 6\n"));
  CHECK(l.says("  line 12\n  error: no such image\n"));
  CHECK(!l.says("  line 5\n"));
  CHECK(!l.says("--max-restarts"));  // it would fail again
  CHECK(l.says("[rank 2] rank 1 left\n"));
  CHECK(l.out() == "rank 1 left\n");

  Launched killed(ranks(2, "[ $RANK = 0 ] && kill -9 $$; sleep 0.1; exit 5"));
  CHECK(killed.finish() == 5);
  CHECK(
      killed.says("was killed by SIGKILL: kill -9, or the kernel for want of memory\nrank 1 ended "
                  "with exit code 5"));
  CHECK(killed.says("--max-restarts N starts all ranks again"));
}

TEST_CASE("launcher: a rank that does not end with the others is named, and ended") {
  const auto begin = Clock::now();
  Launched stopped(ranks(3, "[ $RANK = 2 ] && kill -STOP $$; sleep 0.1; exit 5"));
  CHECK(stopped.finish() == 5);
  CHECK(stopped.says("rank 2 (host "));
  CHECK(stopped.says(") is stopped (by SIGSTOP"));

  // To SIGTERM it listens or not.
  for (const char* trap : {"", "trap '' TERM; "}) {
    Launched l(
        ranks(2, std::string(trap) + "[ $RANK = 0 ] && exit 5; while :; do sleep 0.05; done"));
    CHECK(l.finish() == 5);
    CHECK(l.says("rank 1 (host "));
    CHECK(l.says(") did not end\nrank 0 ended with exit code 5"));
  }
  // Of a rank that failed the others are followers, also where they must be ended.
  Launched failed(ranks(2, "[ $RANK = 0 ] && exit 4; exec sleep 100"));
  CHECK(failed.finish() == 4);
  CHECK(failed.says("exit code 4 (checkpoint)\nrank 1 did not end"));
  CHECK(seconds_since(begin) < 20);
}

TEST_CASE("launcher: signals go to every rank, once each") {
  for (const int s : {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2}) {
    CAPTURE(s);
    Launched l(ranks(2, R"(
      trap 'echo got it >&2; exit 75' TERM INT HUP USR1 USR2
      echo ready $RANK >&2; for i in $(seq 600); do sleep 0.05; done)"));
    REQUIRE(l.are_ready(2));
    l.signal(s);
    CHECK(l.finish() == 75);
    CHECK(l.says("[rank 1] got it"));
    CHECK(!l.says("error"));
  }
  Launched twice(ranks(2, R"(
    trap 'n=$((n + 1)); echo $n $RANK >&2; [ $n = 2 ] && exit 75' USR1
    echo ready $RANK >&2; for i in $(seq 600); do sleep 0.05; done)"));
  REQUIRE(twice.are_ready(2));
  twice.signal(SIGUSR1);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  twice.signal(SIGUSR1);  // as timeout(1) does: it is the same request
  REQUIRE((twice.says_in_time("1 0") && twice.says_in_time("1 1")));
  std::this_thread::sleep_for(dist::StopRequests::kOneRequest);
  CHECK(!twice.says("2 "));
  twice.signal(SIGUSR1);
  CHECK(twice.finish() == 75);
  CHECK((twice.says("2 0\n") && twice.says("2 1\n")));
}

TEST_CASE("launcher: signals that end ranks before their first step, or at once") {
  Launched l(ranks(2, "echo ready $RANK >&2; exec sleep 100"));
  REQUIRE(l.are_ready(2));
  l.signal(SIGINT);
  CHECK(l.finish() == 128 + SIGINT);
  CHECK(!l.says("error"));

  Launched deaf(ranks(2, "trap '' TERM; echo ready $RANK >&2; while :; do sleep 0.05; done"));
  REQUIRE(deaf.are_ready(2));
  deaf.signal(SIGTERM);
  // It may take as long as it needs to save.
  std::this_thread::sleep_for(dist::StopRequests::kOneRequest);
  CHECK(is_running(deaf.pid()));
  deaf.signal(SIGTERM);
  CHECK(deaf.finish() == 5);
  CHECK(deaf.says(") did not end"));

  Launched nohup(ranks(1, "echo ready $RANK >&2; exec sleep 100"), true);
  REQUIRE(nohup.are_ready(1));
  nohup.signal(SIGHUP);
  ::usleep(200'000);
  CHECK(is_running(nohup.pid()));
  nohup.signal(SIGTERM);
  CHECK(nohup.finish() == 128 + SIGTERM);
}

TEST_CASE("launcher: all ranks start again, where that may help") {
  const std::string third = R"(
    echo "start $SG_RESTART of $SG_JOB" >&2
    [ $SG_RESTART = 2 ] && exit 0
    [ $RANK = 1 ] && exit 1
    sleep 0.1; exit 5)";
  auto s = ranks(2, third);
  s.max_restarts = 3;
  s.start = [third](int64_t restart) {
    return dist::LauncherStart{{"bash", "-c", third, restart ? "again" : "first"},
                               restart > 1 ? "last.safetensors" : ""};
  };
  Launched l(s);
  CHECK(l.finish() == 0);
  CHECK(l.says("warning: rank 1 (host "));
  CHECK(l.says("all ranks start again from the beginning, restart 1 of 3"));
  CHECK(l.says("all ranks start again from last.safetensors, restart 2 of 3"));
  CHECK(!l.says("error"));
  const size_t at = l.err().find("start 0 of ");
  REQUIRE(at != std::string::npos);
  CHECK(l.says("start 2 of " + l.err().substr(at + 11, 16)));  // of the same job

  s.max_restarts = 1;
  Launched too_few(s);
  CHECK(too_few.finish() == 1);
  CHECK(too_few.says("no restart is left of 1\ngo on from last.safetensors by: bash -c "));
  CHECK(!too_few.says("start 2"));

  // The same command helps where the run has gone on, but not against numbers that are not finite.
  for (const auto& [script, helps] : {std::pair("exit 2", false),
                                      {"exit 4", false},
                                      {"touch $0; exit 4", true},
                                      {"touch $0; exit 6", false}}) {
    const TemporaryFolder folder;
    const std::string last = (folder / "last").string();
    auto one = ranks(1, "");
    one.start = [=](int64_t) { return dist::LauncherStart{{"bash", "-c", script, last}, last}; };
    Launched o(one);
    CHECK(o.finish() > 0);
    CHECK_MESSAGE(o.says("go on from ") == helps, script);
  }

  for (const auto& [script, code] : {std::pair("exit 3", 3), {"kill -9 $$", 5}, {"exit 6", 6}}) {
    auto one = ranks(1, fmt::format("echo start >&2; [ $SG_RESTART = 1 ] && exit 0; {}", script));
    one.max_restarts = 1;
    Launched o(one);
    CHECK(o.finish() == (code == 5 ? 0 : code));
    CHECK(o.says("start again") == (code == 5));
  }
}

TEST_CASE("launcher: no restart after a signal") {
  auto s = ranks(1, "exit 1");
  s.max_restarts = 5, s.backoff = LauncherSettings::Seconds(30);
  Launched l(s);
  REQUIRE(l.says_in_time("restart 1 of 5"));
  l.signal(SIGTERM);
  CHECK(l.finish() == 1);
  CHECK(l.says("the ranks do not start again, since a signal came"));

  auto failing = ranks(1, "trap 'exit 1' TERM; echo ready $RANK >&2; while :; do sleep 0.05; done");
  failing.max_restarts = 5;
  Launched f(failing);
  REQUIRE(f.are_ready(1));
  f.signal(SIGTERM);
  CHECK(f.finish() == 1);
  CHECK(!f.says("start again"));
}

TEST_CASE("launcher: killed itself, it leaves no rank behind") {
  const TemporaryFolder folder;
  const std::string pids = (folder / "pids").string();
  // One has become another program since.
  Launched l(
      ranks(3, fmt::format("echo $$ >> {}; echo ready $RANK >&2; [ $RANK = 1 ] && exec sleep "
                           "100; while :; do read -t 100 x < <(:) ; sleep 0.2; done",
                           pids)));
  REQUIRE(l.are_ready(3));
  for (int i = 0; i < 500 && lines_of(read_file(pids)).size() < 3; ++i) ::usleep(10'000);
  const auto all = lines_of(read_file(pids));
  REQUIRE(all.size() == 3);
  for (const std::string& pid : all) CHECK(is_running(std::stoi(pid)));
  l.signal(SIGKILL);
  CHECK(l.finish() == 128 + SIGKILL);
  for (const std::string& pid : all) {
    for (int i = 0; i < 500 && is_running(std::stoi(pid)); ++i) ::usleep(10'000);
    CHECK(!is_running(std::stoi(pid)));
  }
}

TEST_CASE("launcher: the output of ranks is never torn") {
  Launched l(ranks(3, R"(
    for i in $(seq 300); do printf "line "; echo "$i of $RANK" >&$((i % 2 + 1)); done
    printf 'odd \377\033[1m\n' >&2
    [ $RANK = 2 ] && head -c 200000 /dev/zero | tr '\0' x
    exit 0)"));
  CHECK(l.finish() == 0);
  int of_rank[3] = {}, x = 0, odd = 0;
  for (const std::string& line : lines_of(l.err())) {
    CAPTURE(line.substr(0, 80));
    const bool other = line.starts_with("[rank 1] ") || line.starts_with("[rank 2] ");
    const std::string text = other ? line.substr(9) : line;
    if (text.starts_with("odd ")) {
      CHECK(text == (other ? "odd \\xff?[1m" : "odd \xff\x1b[1m"));
      ++odd;
    } else if (text.starts_with("xxx")) {
      CHECK(line[6] == '2');
      x += int(text.size());
    } else {
      const int rank = other ? line[6] - '0' : 0;
      CHECK(text.ends_with(fmt::format(" of {}", rank)));
      ++of_rank[rank];
    }
  }
  CHECK(of_rank[0] == 150);  // the others went to standard output
  CHECK(of_rank[1] == 300);
  CHECK(of_rank[2] == 300);
  CHECK(odd == 3);
  CHECK(x == 200'000);
}

TEST_CASE("launcher: a rank may close what it writes to, or never end a line") {
  Launched l(ranks(2, "printf begun >&2; exec >&- 2>&-; sleep 0.2; exit $((RANK * 3))"));
  CHECK(l.finish() == 3);
  CHECK(l.says("[rank 1] begun\n"));
  CHECK(l.says("last lines of rank 1:\n  begun\n"));
}

TEST_CASE("launcher: where nobody reads what ranks say, signals still reach them") {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const pid_t child = start_child([&] {
    ::dup2(ends[1], STDERR_FILENO);
    return int(dist::launch(ranks(2, R"(
      (while :; do echo much to say; done) &
      trap 'kill $!; exit 75' TERM
      wait)")));
  });
  ::usleep(700'000);
  ::kill(child, SIGTERM);
  CHECK(wait_for(child) == 75);
  ::close(ends[0]), ::close(ends[1]);
}

TEST_CASE("launcher: each rank has its share of the cores, where there are enough") {
  const std::vector<int> cores = cores_of_mask();
  const int n = int(cores.size());
  const std::string script =
      "echo $RANK $OMP_NUM_THREADS $(grep Cpus_allowed: /proc/self/status) >&2; sleep 0.1";
  const auto masks = [&](int count, bool threads, const std::optional<std::string>& omp) {
    const Environment environment("OMP_NUM_THREADS", omp);
    auto s = ranks(count, script);
    s.set_threads = threads;
    Launched l(s);
    CHECK(l.finish() == 0);
    std::vector<std::string> said = lines_of(l.err());
    for (std::string& line : said)
      if (line[0] == '[') line.erase(0, line.find(']') + 2);
    std::ranges::sort(said);
    return said;
  };
  // "1 2 Cpus_allowed: ff" of cores first to last.
  const auto expected = [&](int rank, const std::string& threads, size_t first, size_t last) {
    std::string mask;
    uint64_t bits = 0;
    for (size_t i = first; i < last; ++i) bits |= uint64_t(1) << cores[i];
    return fmt::format("{} {}{}Cpus_allowed: {:x}", rank, threads, threads.empty() ? "" : " ",
                       bits);
  };
  const auto without_zeros = [](std::string line) {  // "00000000,00000003" or "3"
    const size_t at = line.rfind(' ') + 1;
    std::string mask = line.substr(at);
    std::erase(mask, ',');
    mask.erase(0, mask.find_first_not_of('0'));
    return line.substr(0, at) + mask;
  };
  if (cores.back() >= 64) return;  // masks here are of one word
  const int usable = usable_cores().usable;
  const auto said = masks(2, true, std::nullopt);
  REQUIRE(said.size() == 2);
  const size_t half = n >= 2 ? size_t(n / 2) : 0;
  const std::string threads = std::to_string(std::max(1, usable / 2));
  CHECK(without_zeros(said[0]) == expected(0, threads, 0, n >= 2 ? half : size_t(n)));
  CHECK(without_zeros(said[1]) == expected(1, threads, half, size_t(n)));

  const auto many = masks(n + 1, true, std::nullopt);  // not one core for each
  REQUIRE(int(many.size()) == n + 1);
  CHECK(without_zeros(many[0]) == expected(0, "1", 0, size_t(n)));
  CHECK(without_zeros(masks(1, true, "7")[0]) == expected(0, "7", 0, size_t(n)));  // the user's
  CHECK(without_zeros(masks(1, false, std::nullopt)[0]) == expected(0, "", 0, size_t(n)));
}

TEST_CASE("launcher: a program that cannot be started") {
  auto s = ranks(2, "");
  s.program = "/nowhere/sgtrain";
  Launched l(s);
  CHECK(l.finish() == 1);
  CHECK(l.says("error: /nowhere/sgtrain cannot be started: No such file or directory"));
}
