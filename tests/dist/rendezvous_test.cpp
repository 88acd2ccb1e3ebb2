// How ranks find rank 0, where others are in the way.
#include "dist/rendezvous.h"

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <thread>

#include "tests/dist/ranks.h"

using namespace sg;
using test::Outcome;
using test::Ranks;
using test::within;

namespace {

void meet(dist::Group& group) { group.barrier("all there"); }

// By MASTER_ADDR and MASTER_PORT alone.
Ranks::Told told_by_torchrun(int port, const std::string& job = "", bool taken = false) {
  return [=](dist::Launch& launch) {
    if (launch.listener >= 0) ::close(launch.listener);
    launch.listener = -1;
    launch.launcher = "torchrun";
    launch.port = port;
    launch.port_is_taken = taken;
    launch.job = job;
  };
}

// A port that is free, with some free ones after it: likely so above those of clients.
int free_port() {
  static int next = 61000 + ::getpid() % 2000;
  while (!dist::listen_on(++next)) {
  }
  return next;
}

// A program of another kind on a port, for the life of the object.
class Stranger {
 public:
  // `answer`: what it says to who connects; nothing: it says nothing and keeps the connection.
  Stranger(int port, std::string answer) {
    auto listener = dist::listen_on(port);
    REQUIRE(listener);
    pid_ = test::start_child([&] {
      for (std::vector<FileDescriptor> kept;;) {
        FileDescriptor fd(::accept(listener->get(), nullptr, nullptr));
        (void)!::send(fd.get(), answer.data(), answer.size(), MSG_NOSIGNAL);
        if (answer.empty()) kept.push_back(std::move(fd));
      }
      return 0;
    });
  }
  ~Stranger() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

 private:
  pid_t pid_;
};

}  // namespace

TEST_CASE("a descriptor that was inherited, and is no listening socket, is named") {
  for (const int wrong : {STDOUT_FILENO, 777}) {
    Ranks ranks(2, within(1), meet, [&](dist::Launch& launch) {
      if (launch.rank == 0) launch.listener = wrong;
    });
    const auto outcomes = ranks.wait();
    CHECK(outcomes[0].code == int(ExitCode::usage));
    CHECK(outcomes[0].text.find(fmt::format("found {}; sgtrain", wrong)) != std::string::npos);
  }
}

TEST_CASE("more ranks than rank 0 may have connections: the limit is raised, or named") {
  constexpr rlim_t kFiles = 20;
  for (const bool hard : {false, true}) {
    Ranks ranks(int(kFiles), hard ? within(2) : test::kPatient, meet, [&](dist::Launch& launch) {
      rlimit files{};
      ::getrlimit(RLIMIT_NOFILE, &files);
      files = {kFiles, hard ? kFiles : files.rlim_max};
      if (launch.rank == 0) ::setrlimit(RLIMIT_NOFILE, &files);
    });
    const auto outcomes = ranks.wait();
    if (hard)
      test::check_lost(outcomes[0], 2,
                       {"rank 0 (", "cannot take the connections of 20 ranks: Too", "ulimit -n"});
    else
      test::check_all_well(outcomes);
  }
}

TEST_CASE("by MASTER_PORT; where the launcher holds it, by the next one") {
  for (const bool taken : {false, true}) {
    Ranks run(3, test::kPatient, meet, told_by_torchrun(free_port(), "job", taken));
    test::check_all_well(run.wait());
  }
}

TEST_CASE("another program on MASTER_PORT is passed over") {
  for (const char* answer : {"", "HTTP/1.1 400 Bad Request\r\n\r\n"}) {
    const int port = free_port();
    const Stranger stranger(port, answer);
    Ranks run(2, test::kPatient, meet, told_by_torchrun(port));
    test::check_all_well(run.wait());
  }
}

TEST_CASE("two runs with the same MASTER_PORT do not mix") {
  const int port = free_port();
  const auto other = [](dist::Group& group) {
    const auto all = group.all_gather("names", "other");
    check(all == std::vector<std::string>{"other", "other"}, "a rank of another run");
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
  };
  Ranks first(2, test::kPatient, other, told_by_torchrun(port, "first"));
  Ranks second(2, test::kPatient, other, told_by_torchrun(port, "second"));
  test::check_all_well(first.wait());
  test::check_all_well(second.wait());
}

TEST_CASE("a rank of another run or size is refused, and told why") {
  Ranks other_run(2, within(1), meet, [](dist::Launch& l) {
    if (l.rank == 1) l.job = "mine";
  });
  Ranks other_size(2, within(1), meet, [](dist::Launch& l) {
    if (l.rank == 1) l.ranks = 3;
  });
  for (const auto& [run, why] :
       {std::pair(&other_run, "rank 0 of another run ('test', not 'mine')"),
        {&other_size, "rank 0 of 2 processes, not of 3"}}) {
    const auto outcomes = run->wait();
    test::check_lost(outcomes[0], 4, {"rank 1 of 2 did not come"});
    test::check_lost(outcomes[1], 4, {"did not find rank 0", why});
  }
}

TEST_CASE("of our launcher, which listens before any rank is there, a port that refuses is lost") {
  Ranks run(2, within(20), meet, [](dist::Launch& launch) {
    if (launch.rank == 0) ::raise(SIGKILL);
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
  });
  test::check_lost(run.wait()[1], 5,
                   {"rank 1 of 2 ", "did not find rank 0", "nobody listens any more"});
}

TEST_CASE("a second process with the same rank is refused") {
  Ranks run(
      3, within(1), [](dist::Group&) {},
      [](dist::Launch& l) {
        if (l.rank == 2) l.rank = 1;
      });
  const auto outcomes = run.wait();
  test::check_lost(outcomes[0], 3, {"rank 2 of 3 did not come"});
  // Which of the two came first is not known.
  const bool second = outcomes[2].text.find("did not find") != std::string::npos;
  test::check_lost(outcomes[second ? 2 : 1], 3, {"did not find rank 0", "rank 1 (host "});
}

TEST_CASE("by a file in the run's folder, also where one of an earlier run is left") {
  test::TemporaryFolder folder;
  const auto file = folder / "ranks-77.0.1";
  dist::GroupSettings settings = test::kPatient;
  settings.folder = folder.path();
  for (const char* left : {"", "sgtrain rank 0 9\n127.0.0.1\n", "something else\n"}) {
    if (*left) test::put(file, left);
    Ranks run(3, settings, meet, [](dist::Launch& launch) {
      told_by_torchrun(0, "77.0.1")(launch);
      launch.address = "";
      launch.rank = 2 - launch.rank;  // rank 0 comes last: the others find what was left
    });
    test::check_all_well(run.wait());
    CHECK(!std::filesystem::exists(file));
  }
}

TEST_CASE("without an address, and without a folder that all share, it is an error") {
  dist::Launch launch;
  launch.ranks = 2;
  const std::string error = test::error_of(ExitCode::usage, [&] { dist::Rendezvous(launch, ""); });
  CHECK(error.find("MASTER_ADDR") != std::string::npos);
}

TEST_CASE("all ports are in use: MASTER_PORT is to be another one") {
  const int port = free_port();
  std::vector<std::optional<FileDescriptor>> held;
  for (int p = port; p < port + 17; ++p) held.push_back(dist::listen_on(p));
  dist::Launch launch;
  launch.ranks = 2;
  launch.address = "127.0.0.1";
  launch.port = port;
  const std::string error = test::error_of(ExitCode::usage, [&] { dist::Rendezvous(launch, ""); });
  CHECK(error.find(fmt::format("{} to {}", port, port + 16)) != std::string::npos);
}
