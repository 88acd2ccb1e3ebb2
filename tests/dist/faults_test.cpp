// Ranks that are killed, stopped, late, or do something else: what the others say, and when.
#include <doctest/doctest.h>

#include <netinet/in.h>

#include <thread>

#include "core/tensor.h"
#include "tests/dist/ranks.h"

using namespace sg;
using test::check_lost;
using test::Outcome;
using test::Ranks;
using test::within;

namespace {

constexpr double kTimeout = 2;
// Of the whole test, on a machine that does other work.
constexpr double kAtOnce = 4, kInTime = kTimeout + 3;

void pause_for(double seconds) { std::this_thread::sleep_for(dist::Seconds(seconds)); }

// Reductions until something happens; 4 MB take a while, so it happens within one.
void reduce_for_ever(dist::Group& group) {
  Tensor t = zeros({1 << 20});
  for (int step = 1;; ++step) {
    group.progress(fmt::format("step {}", step));
    for (int slice = 1; slice <= 2; ++slice)
      group.communicator({}).start_all_reduce(fmt::format("slice {} of 2", slice), t);
    group.communicator({}).join();
  }
}

}  // namespace

TEST_CASE("kill -9 of a rank in an all-reduce is named at once, rank 0 or another") {
  Ranks first(4, within(20), reduce_for_ever), second(4, within(20), reduce_for_ever);
  pause_for(1.2);  // signs of life come once a second
  for (const auto& [run, victim] : {std::pair{&first, 2}, {&second, 0}}) {
    const pid_t process = run->pid(victim);
    ::kill(process, SIGKILL);
    const auto outcomes = run->wait();
    for (int rank = 0; rank < 4; ++rank) {
      if (rank == victim)
        CHECK(outcomes[rank].code == 128 + SIGKILL);
      else
        check_lost(outcomes[rank], 1.2 + 2 * kAtOnce,
                   {fmt::format("rank {} (host ", victim), fmt::format("process {}", process),
                    "killed", "in step "});
    }
  }
}

TEST_CASE("SIGSTOP of a rank in an all-reduce is named within the timeout") {
  Ranks first(3, within(kTimeout), reduce_for_ever), second(3, within(kTimeout), reduce_for_ever);
  pause_for(0.3);
  const auto runs = {std::pair{&first, 1}, {&second, 0}};
  for (const auto& [run, victim] : runs) ::kill(run->pid(victim), SIGSTOP);
  for (const auto& [run, victim] : runs) {
    const auto outcomes = run->wait(victim);
    for (int rank = 0; rank < 3; ++rank)
      if (rank != victim)
        check_lost(outcomes[rank], 0.3 + kInTime,
                   {fmt::format("rank {} (host ", victim), "no sign of life for 2 s", "in step "});
    // When it goes on, it finds that the others are gone.
    ::kill(run->pid(victim), SIGCONT);
    CHECK(run->wait()[victim].code == int(ExitCode::peer));
  }
}

TEST_CASE("a rank that is stopped for less than the timeout goes on") {
  Ranks run(2, within(6), [](dist::Group& group) {
    Tensor t = zeros({1 << 20});
    for (int i = 0; i < 20; ++i) {
      pause_for(0.05);
      group.communicator({}).all_reduce("sums", t);
    }
  });
  pause_for(0.3);
  for (const int rank : {1, 0}) {
    ::kill(run.pid(rank), SIGSTOP);
    pause_for(0.8);
    ::kill(run.pid(rank), SIGCONT);
  }
  test::check_all_well(run.wait());
}

TEST_CASE("a rank that lives but does not come is named, with where it is") {
  Ranks reducing(3, within(kTimeout), [](dist::Group& group) {
    group.progress("step 7");
    Tensor t = zeros({100});
    group.communicator({}).all_reduce("slice 1 of 2", t);
    if (group.rank() == 1) pause_for(kTimeout + 0.7);
    group.communicator({}).all_reduce("slice 2 of 2", t);
  });
  Ranks before_the_first_step(2, within(kTimeout), [](dist::Group& group) {
    if (group.rank() == 0) pause_for(kTimeout + 0.7);
    group.barrier("all there");
  });
  for (const Outcome& o : reducing.wait())
    check_lost(
        o, kInTime + 1,
        {"rank 1 (host ", "has not reached slice 2 of 2: it is in step 7", "ranks 0, 2 wait"});
  for (const Outcome& o : before_the_first_step.wait())
    check_lost(o, kInTime + 1, {"rank 0 (host ", "has not reached all there", "rank 1 waits"});
}

TEST_CASE("a rank that is busy may take longer") {
  Ranks run(2, within(1), [](dist::Group& group) {
    Tensor t = zeros({100});
    group.communicator({}).all_reduce("before", t);
    if (group.leads()) group.busy("saving a checkpoint", [] { pause_for(2); });
    group.communicator({}).all_reduce("after", t);
  });
  test::check_all_well(run.wait());
}

TEST_CASE("a rank that never comes is named") {
  const auto program = [](dist::Group&) {};
  Ranks run(3, within(1.5), program, [](dist::Launch& launch) { launch.ranks = 4; });
  for (const Outcome& o : run.wait())
    check_lost(o, 3, {"rank 3 of 4 did not come within", "ranks 0, 1, 2 came", "launcher"});
}

TEST_CASE("a rank that is killed before all have come is named") {
  const auto program = [](dist::Group&) {};
  Ranks run(2, within(1.5), program, [](dist::Launch& launch) { launch.ranks = 3; });
  pause_for(0.3);
  ::kill(run.pid(1), SIGKILL);
  check_lost(run.wait()[0], 3, {"rank 1 (host ", "lost before all had come"});
}

TEST_CASE("rank 0 that never comes is named by the others") {
  // Held without listening: nobody else is there.
  const FileDescriptor held(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address{AF_INET};
  REQUIRE(::bind(held.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
  const int port = dist::port_of(held.get());
  Ranks run(
      1, within(1), [](dist::Group&) {},
      [port](dist::Launch& launch) {
        launch.launcher = "torchrun";
        launch.rank = 1;
        launch.ranks = 2;
        launch.port = port;
        launch.listener = -1;
      });
  check_lost(run.wait()[0], 3,
             {fmt::format("did not find rank 0 at 127.0.0.1 port {}", port), "Connection refused"});
}

TEST_CASE("a rank that ends with an error of its own: the others say its reason") {
  for (const int bad : {0, 2}) {
    Ranks run(3, within(20), [bad](dist::Group& group) {
      Tensor t = zeros({100});
      group.communicator({}).all_reduce("slice 1 of 1", t);
      if (group.rank() == bad) fail(ExitCode::data, "images/cat.png is broken");
      group.communicator({}).all_reduce("slice 1 of 1", t);
    });
    const auto outcomes = run.wait();
    for (int rank = 0; rank < 3; ++rank) {
      if (rank == bad)
        CHECK(outcomes[rank].code == int(ExitCode::data));
      else
        check_lost(outcomes[rank], kAtOnce,
                   {fmt::format("rank {} (host ", bad), "ended: images/cat.png is broken"});
    }
  }
}

TEST_CASE("a rank that ends early, or by an exception, does not leave the others waiting") {
  for (const bool throws : {false, true}) {
    Ranks run(2, within(20), [throws](dist::Group& group) {
      if (group.leads()) {
        group.barrier("the end");
      } else if (throws) {
        // Nobody says leave() where the group is gone before the error is caught.
        std::unique_ptr<dist::Group> inner(&group);
        try {
          const std::unique_ptr<dist::Group> owner = std::move(inner);
          throw std::runtime_error("some error");
        } catch (const std::runtime_error&) {
        }
        ::_exit(0);
      }
    });
    check_lost(run.wait()[0], kAtOnce, {throws ? "ended: an error" : "has ended without the end"});
  }
}

TEST_CASE("tensors that differ between ranks are an error that names both, never a crash") {
  const auto start = [](dist::Group& group, int odd, const auto& different) {
    dist::Communicator& c = group.communicator({});
    Tensor t = zeros({100});
    c.all_reduce("before", t);
    group.rank() == odd ? different(c) : c.all_reduce("slice 2 of 5", t);
  };
  const std::pair<std::string, std::function<void(dist::Communicator&)>> cases[] = {
      {"all-reduce 'slice 2 of 5' of 99 f32",
       [](dist::Communicator& c) { c.all_reduce("slice 2 of 5", zeros({99})); }},
      {"all-reduce 'slice 3 of 5' of 100 f32",
       [](dist::Communicator& c) { c.all_reduce("slice 3 of 5", zeros({100})); }},
      {"all-reduce 'slice 2 of 5' of 100 f64",
       [](dist::Communicator& c) { c.all_reduce("slice 2 of 5", zeros({100}, Dtype::f64)); }},
      {"broadcast 'slice 2 of 5' of 100 f32",
       [](dist::Communicator& c) { c.broadcast("slice 2 of 5", zeros({100})); }},
      {"all-reduce 'slice 2 of 5' of 100 f32 as bf16",
       [](dist::Communicator& c) {
         c.start_all_reduce("slice 2 of 5", zeros({100}), dist::Wire::bf16);
         c.join();
       }},
  };
  for (const auto& [name, different] : cases) {
    Ranks run(3, within(20), [&](dist::Group& group) { start(group, 2, different); });
    for (const Outcome& o : run.wait()) {
      CAPTURE(o.text);
      CHECK(o.seconds < kAtOnce);
      // The first to end may be heard by others that have found the same.
      CHECK((o.code == int(ExitCode::failure) || o.code == int(ExitCode::peer)));
      CHECK(o.text.find("rank 0 is in all-reduce 'slice 2 of 5' of 100 f32, rank 2 (host ") !=
            std::string::npos);
      CHECK(o.text.find("in " + name) != std::string::npos);
    }
  }
}

TEST_CASE("a rank that cannot be reached by an exception says the verdict and ends") {
  test::TemporaryFolder folder;
  const auto log = folder / "stderr.txt";
  dist::GroupSettings settings = within(20);
  settings.exit_after = dist::Seconds(0.5);
  Ranks run(2, settings, [&](dist::Group& group) {
    if (group.leads()) {
      ::dup2(::open(log.c_str(), O_CREAT | O_WRONLY, 0600), STDERR_FILENO);
      group.barrier("all there");
      pause_for(60);
    } else {
      group.barrier("all there");
      fail(ExitCode::data, "no images");
    }
  });
  const Outcome o = run.wait()[0];
  CHECK(o.code == int(ExitCode::peer));
  CHECK(o.seconds < 0.5 + kAtOnce);
  CHECK(read_file(log).find("error: rank 1 (host ") == 0);
  CHECK(read_file(log).find("ended: no images\n") != std::string::npos);
}
