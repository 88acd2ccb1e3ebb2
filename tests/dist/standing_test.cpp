#include "dist/standing.h"

#include <doctest/doctest.h>

using namespace sg;
using dist::Clock;
using dist::Lane;
using dist::Standing;
using std::chrono::seconds;

namespace {

const Clock::time_point kNow = Clock::now();

Lane inside(int64_t entered, int since, const char* what = "slice 2") {
  return {entered, true, what, kNow - seconds(since)};
}
Lane through(int64_t entered) { return {entered, false, "slice 1", kNow - seconds(1)}; }

std::vector<Standing> ranks(std::vector<Lane> tensors) {
  std::vector<Standing> all(tensors.size());
  for (size_t i = 0; i < all.size(); ++i) {
    all[i].name = fmt::format("rank {}", i);
    all[i].where = fmt::format("step {}", 10 + i);
    all[i].tensors = tensors[i];
  }
  return all;
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a stall: who waits, for whom, since when, and where the missing one is") {
  auto all = ranks({inside(5, 31), inside(5, 20), through(4), inside(5, 30)});
  const auto stall = find_stall(all, kNow);
  REQUIRE(stall);
  CHECK(stall->waiting == std::vector<int>{0, 1, 3});
  CHECK(stall->missing == std::vector<int>{2});
  CHECK(!stall->excused);
  CHECK(!stall->hopeless);
  CHECK(stall->text(all, kNow) ==
        "rank 2 has not reached slice 2: it is in step 12; ranks 0, 1, 3 wait for 31 s");
}

TEST_CASE("nobody waits: there is no stall") {
  CHECK(!find_stall(ranks({through(4), through(4), through(4)}), kNow));
  CHECK(!find_stall(ranks({through(4), through(3), through(4)}), kNow));
}

TEST_CASE("a rank that is busy is waited for, and has its time from the end of that") {
  auto all = ranks({inside(5, 400), through(4)});
  all[1].busy = "saving a checkpoint";
  all[1].busy_until = kNow;
  auto stall = find_stall(all, kNow);
  REQUIRE(stall);
  CHECK(stall->excused);
  CHECK(has(stall->text(all, kNow), "step 11, saving a checkpoint"));
  CHECK(has(stall->text(all, kNow), "rank 0 waits for 400 s"));

  all[1].busy = "";
  all[1].busy_until = kNow - seconds(7);
  stall = find_stall(all, kNow);
  REQUIRE(stall);
  CHECK(!stall->excused);
  CHECK(stall->since == kNow - seconds(7));
}

TEST_CASE("a rank that has ended is not waited for") {
  auto all = ranks({inside(5, 0), through(4)});
  all[1].gone = true;
  const auto stall = find_stall(all, kNow);
  REQUIRE(stall);
  CHECK(stall->hopeless);
  CHECK(has(stall->text(all, kNow), "rank 1 has ended without slice 2"));
}

TEST_CASE("of ranks that are behind, one that waits itself is not the one that is missing") {
  // Rank 1 waits for rank 2 in a collective of texts; rank 0 for both in one of tensors.
  auto all = ranks({inside(5, 30), through(4), through(4)});
  all[1].texts = inside(1, 10, "options");
  auto stall = find_stall(all, kNow);
  REQUIRE(stall);
  CHECK(stall->missing == std::vector<int>{2});

  // Each waits in another one: both are named.
  all[2].texts = inside(1, 10, "options");
  stall = find_stall(all, kNow);
  REQUIRE(stall);
  CHECK(stall->missing == std::vector<int>{1, 2});
  CHECK(has(stall->text(all, kNow), "it is in step 11, waiting in options"));
}

TEST_CASE("all are in a collective that does not end: the time counts from the last that came") {
  const auto all = ranks({inside(5, 90), inside(5, 31)});
  const auto stall = find_stall(all, kNow);
  REQUIRE(stall);
  CHECK(stall->missing.empty());
  CHECK(!stall->excused);
  CHECK(has(stall->text(all, kNow), "all ranks have been in slice 2 for 31 s"));
}

TEST_CASE("what a rank sends of itself is read back") {
  Standing sent = ranks({inside(7, 3)})[0];
  sent.busy = "saving";
  Standing read;
  dist::read_beat(dist::beat_of(sent), read);
  CHECK(read.where == "step 10");
  CHECK(read.busy == "saving");
  CHECK(read.tensors.entered == 7);
  CHECK(read.tensors.inside);
  CHECK(read.tensors.what == "slice 2");
  CHECK(Clock::now() - read.tensors.since < seconds(60));
  CHECK(Clock::now() - read.tensors.since >= seconds(3));
  // One that is cut is no more than a sign of life.
  Standing other = read;
  dist::read_beat({dist::Message::Type::beat}, other);
  CHECK(other.where == "step 10");
}
