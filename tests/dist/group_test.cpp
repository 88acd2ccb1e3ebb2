#include "dist/group.h"

#include <doctest/doctest.h>

#include "tests/dist/ranks.h"

using namespace sg;
using test::Outcome;
using test::Ranks;

namespace {

constexpr double kTimeout = 20;  // where nothing is to fail

void check_all_well(const std::vector<Outcome>& outcomes) {
  for (const Outcome& o : outcomes) {
    CHECK(o.code == 0);
    CHECK(o.text == "");
  }
}

}  // namespace

TEST_CASE("one process alone is a group") {
  const auto group = dist::join({});
  CHECK(group->alone());
  CHECK(group->leads());
  CHECK(group->all_gather("texts", "a") == std::vector<std::string>{"a"});
}

TEST_CASE("ranks exchange texts of any bytes") {
  for (const int ranks : {2, 4}) {
    Ranks run(ranks, kTimeout, [ranks](dist::Group& group) {
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
    check_all_well(run.wait());
  }
}

TEST_CASE("ranks that do not make the same calls are told so") {
  Ranks run(2, kTimeout, [](dist::Group& group) {
    group.leads() ? group.barrier("the first call") : group.barrier("the second call");
  });
  for (const Outcome& o : run.wait()) {
    CHECK(o.code == int(ExitCode::failure));
    CHECK(o.text.find("is in 'the first call', rank 1") != std::string::npos);
    CHECK(o.text.find("in 'the second call'") != std::string::npos);
  }
}
