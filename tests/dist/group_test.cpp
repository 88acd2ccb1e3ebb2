#include "dist/group.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/time.h>

#include <fstream>

#include "core/tensor.h"
#include "dist/alone.h"

#include "tests/dist/ranks.h"

using namespace sg;
using test::Outcome;
using test::Ranks;

TEST_CASE("one process alone is a group") {
  dist::Group& group = dist::alone();
  CHECK(group.alone());
  CHECK(group.leads());
  CHECK(group.all_gather("texts", "a") == std::vector<std::string>{"a"});
}

TEST_CASE("ranks exchange texts of any bytes") {
  for (const int ranks : {2, 4}) {
    Ranks run(ranks, test::kPatient, [ranks](dist::Group& group) {
      check(group.ranks() == ranks && group.leads() == (group.rank() == 0), "who is who");
      const std::string mine(size_t(group.rank()) * 100000, char(group.rank()));
      for (int i = 0; i < 3; ++i) {
        const auto all = group.all_gather("texts", mine);
        check(int(all.size()) == ranks, "number of texts");
        for (int r = 0; r < ranks; ++r)
          check(all[r] == std::string(size_t(r) * 100000, char(r)), "text of rank {}", r);
        check(group.broadcast("seed", group.leads() ? std::string("a\0b", 3) : "not this") ==
                  std::string("a\0b", 3),
              "text of rank 0");
        group.barrier("all there");
      }
    });
    test::check_all_well(run.wait());
  }
}

TEST_CASE("ranks that do not make the same calls are told so") {
  for (int i = 0; i < 10; ++i) {
    Ranks run(2, test::kPatient, [](dist::Group& group) {
      group.leads() ? group.barrier("the first call") : group.barrier("the second call");
    });
    for (const Outcome& o : run.wait()) {
      CHECK(o.code == int(ExitCode::failure));
      CHECK(o.text.find("is in 'the first call', rank 1") != std::string::npos);
      CHECK(o.text.find("in 'the second call'") != std::string::npos);
      // Whichever leaves last does not wait for the other. (Of ten runs one or two did.)
      CHECK(o.seconds < 1.9);
    }
  }
}

namespace {

std::vector<std::string> threads_of_this_process() {
  std::vector<std::string> threads;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task"))
    threads.push_back(entry.path());
  return threads;
}

// The mask of blocked signals of a thread, in hexadecimal.
std::string blocked_of(const std::string& thread) {
  std::ifstream lines(thread + "/status");
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("SigBlk:")) return line.substr(line.find_last_of("\t ") + 1);
  return "";
}

}  // namespace

TEST_CASE("threads of a group take no signals, and end with it") {
  test::TemporaryFolder folder;
  const auto settings = test::kPatient;
  std::vector<pid_t> children;
  auto listener = std::move(*dist::listen_on(0));
  for (int rank = 0; rank < 2; ++rank) {
    children.push_back(test::start_child([&] {
      dist::Launch launch{rank, 2, rank, 2, "sgtrain", "test", "127.0.0.1"};
      launch.port = dist::port_of(listener.get());
      if (rank == 0) launch.listener = ::dup(listener.get());
      listener = FileDescriptor();
      {
        const auto group = dist::join(launch, settings);
        Tensor t = zeros({1000});
        group->communicator({}).all_reduce("sums", t);
        const auto threads = threads_of_this_process();
        check(int(threads.size()) == 4 + (rank == 0), "{} threads", threads.size());
        const std::string own = blocked_of("/proc/self");
        int open = 0;
        for (const std::string& t : threads) open += blocked_of(t) == own;
        check(open == 1, "{} threads take signals: {}", open, own);
        // The end is not before all are here.
        group->barrier("looked");
      }
      check(threads_of_this_process().size() == 1, "threads are left");
      return 0;
    }));
  }
  for (const pid_t child : children) CHECK(test::wait_for(child) == 0);
}

TEST_CASE("signals that interrupt, and closed standard streams, harm nothing") {
  Ranks run(2, test::kPatient, [](dist::Group& group) {
    ::close(STDOUT_FILENO);
    ::close(STDERR_FILENO);
    // Without SA_RESTART, so that waiting calls of this thread are interrupted.
    struct sigaction action {};
    action.sa_handler = [](int) {};
    ::sigaction(SIGALRM, &action, nullptr);
    const itimerval often{{0, 500}, {0, 500}};
    ::setitimer(ITIMER_REAL, &often, nullptr);
    Tensor t = zeros({1 << 18});
    for (int i = 0; i < 50; ++i) {
      group.communicator({}).all_reduce("sums", t);
      group.barrier("step");
    }
  });
  test::check_all_well(run.wait());
}

TEST_CASE("a regular end says nothing, whoever comes last") {
  test::TemporaryFolder folder;
  for (const int last : {0, 1}) {
    const auto log = folder / std::to_string(last);
    Ranks run(2, test::kPatient, [&](dist::Group& group) {
      ::dup2(::open(log.c_str(), O_CREAT | O_WRONLY | O_APPEND, 0600), STDERR_FILENO);
      Tensor t = zeros({1 << 18});
      group.communicator({}).all_reduce("sums", t);
      if (group.rank() == last) std::this_thread::sleep_for(std::chrono::milliseconds(300));
    });
    test::check_all_well(run.wait());
    CHECK(read_file(log) == "");
  }
}
