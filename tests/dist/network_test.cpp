// Two "hosts", network namespaces joined by a cable (veth) that can be cut.
#include <doctest/doctest.h>
#include <sched.h>

#include <cstdlib>

#include "core/tensor.h"
#include "dist/gloo_communicator.h"
#include "tests/dist/ranks.h"

using namespace sg;
using test::Outcome;
using test::Ranks;
using test::within;

namespace {

bool command(const std::string& line) { return std::system((line + " 2>/dev/null").c_str()) == 0; }

// The namespaces, for the life of the object. This host is 10.87.x.1, the other one 10.87.x.2.
class TwoHosts {
 public:
  TwoHosts() {
    made_ =
        command(fmt::format("ip netns add {0}a && ip netns add {0}b", name_)) &&
        command(fmt::format("ip -n {0}a link add {0}x type veth peer name {0}y netns {0}b", name_));
    for (const char* host : {"a", "b"}) {
      const std::string end = *host == 'a' ? "x" : "y", n = name_ + host;
      made_ =
          made_ && command(fmt::format("ip -n {0} link set lo up && ip -n {0} addr add "
                                       "10.87.0.{1}/24 dev {2}{3} && ip -n {0} link set {2}{3} up",
                                       n, *host == 'a' ? 1 : 2, name_, end));
    }
    if (!made_) test::skip("no right to make network namespaces");
  }
  ~TwoHosts() {
    for (const char* host : {"a", "b"}) command(fmt::format("ip netns del {}{}", name_, host));
  }
  bool made() const { return made_; }
  void cut() { command(fmt::format("ip -n {0}a link set {0}x down", name_)); }
  void restore() { command(fmt::format("ip -n {0}a link set {0}x up", name_)); }

  // Within a child: its host from now on. Even ranks are on the first one.
  void enter(int rank) const {
    const std::string file = fmt::format("/run/netns/{}{}", name_, rank % 2 ? "b" : "a");
    const FileDescriptor fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
    check(::setns(fd.get(), CLONE_NEWNET) == 0, "setns {}", file);
  }

 private:
  const std::string name_ = fmt::format("sg{}", ::getpid() % 100000);
  bool made_ = false;
};

}  // namespace

TEST_CASE("ranks of two hosts reach each other, and a cable that is cut shortly is no loss") {
  TwoHosts hosts;
  if (!hosts.made()) return;
  const auto told = [&](dist::Launch& launch) {
    hosts.enter(launch.rank);
    launch.launcher = "torchrun";
    launch.listener = -1;
    launch.port = 29500;
    // Rank 2 finds rank 0 on its own host; rank 1 and 3 are to find rank 2 all the same.
    launch.address = launch.rank == 2 ? "127.0.0.1" : "10.87.0.1";
  };
  test::TemporaryFolder folder;
  const auto begun = folder / "begun";
  const auto program = [&](dist::Group& group) {
    Tensor t = full({1 << 20}, 1);
    const auto end = dist::Clock::now() + std::chrono::seconds(3);
    // All stop at the same step.
    for (bool go_on = true; go_on;) {
      group.communicator({}).all_reduce("sums", t);
      check(t.data<float>()[0] == float(group.ranks()), "sum {}", t.data<float>()[0]);
      t.fill_(1);
      if (group.leads() && !std::filesystem::exists(begun)) test::note(begun);
      go_on = group.broadcast("go on", dist::Clock::now() < end ? "yes" : "no") == "yes";
    }
  };

  SUBCASE("shorter than the timeout") {
    Ranks run(4, within(10), program, told);
    test::wait_for_note(begun);
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    hosts.cut();
    std::this_thread::sleep_for(std::chrono::milliseconds(700));
    hosts.restore();
    test::check_all_well(run.wait());
  }
  SUBCASE("longer than the timeout") {
    Ranks run(2, within(2), program, told);
    test::wait_for_note(begun);
    hosts.cut();
    const auto outcomes = run.wait();
    test::check_lost(outcomes[0], 5, {"rank 1 (host ", "no sign of life for 2 s", "network"});
    test::check_lost(outcomes[1], 5, {"rank 0 (host ", "no sign of life for 2 s", "network"});
  }
}
