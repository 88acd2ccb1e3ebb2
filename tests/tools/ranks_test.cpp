// sgtrain with several ranks on this host: they train as one process does, and what happens when
// one is lost.
#include <signal.h>
#include <unistd.h>

#include <fstream>

#include "core/cpu/cores.h"
#include "tests/support/environment.h"
#include "tests/support/paths.h"
#include "tests/support/process.h"
#include "tests/support/skip.h"
#include "tests/tools/runs.h"

namespace sg {
using namespace sg::test;
namespace fs = std::filesystem;

namespace {

// A run of 16 images a step, whatever the number of ranks.
std::string ranks(const fs::path& data, const fs::path& out, int n, const std::string& more = "") {
  return sgtrain(data, out,
                 fmt::format("-b 4 --grad-accum {} --mixup-group 4 --nproc-per-node {} "
                             "--dist-timeout 8 {}",
                             4 / n, n, more));
}

// The ranks of a launcher, once it has started n of them.
std::vector<pid_t> ranks_of(pid_t launcher, size_t n) {
  std::vector<pid_t> found;
  for (int i = 0; i < 1000 && (found = children_of(launcher)).size() != n; ++i) ::usleep(10'000);
  REQUIRE(found.size() == n);
  return found;
}

// Of the rows of metrics.jsonl that have it.
std::vector<double> values(const fs::path& out, const std::string& key) {
  std::vector<double> all;
  std::ifstream file(out / "metrics.jsonl");
  for (std::string line; std::getline(file, line);)
    if (const auto row = nlohmann::json::parse(line); row.contains(key))
      all.push_back(row[key].get<double>());
  return all;
}

// The same images were evaluated, in batches of other sizes.
void check_evaluations(const fs::path& out, const fs::path& whole) {
  CHECK(values(out, "eval_top1") == values(whole, "eval_top1"));
  const auto a = values(out, "eval_loss"), b = values(whole, "eval_loss");
  REQUIRE(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i) CHECK(a[i] == doctest::Approx(b[i]).epsilon(1e-6));
}

}  // namespace

TEST_CASE("ranks: one, two and four train alike; in a fixed order, to the bit") {
  const TemporaryFolder folder;
  const fs::path data = folder / "data";
  write_idx(data, 64, 10);
  struct Case {
    std::string order, dtype;
    std::vector<int> ranks;
  };
  std::vector<Case> cases{{"fixed", "f32", {2, 4}}, {"ring", "f32", {2, 4}}};
  if (have_cpu_bf16()) cases.push_back({"fixed", "bf16", {2}});
  for (const auto& [order, dtype, numbers_of_ranks] : cases) {
    CAPTURE(order);
    CAPTURE(dtype);
    const fs::path one = folder / (order + dtype + "1");
    const std::string flags = fmt::format("--reduce-order {} --dtype {}", order, dtype);
    const auto alone = run_program(ranks(data, one, 1, flags));
    REQUIRE_MESSAGE(alone.code == 0, alone.err);
    for (const int n : numbers_of_ranks) {
      CAPTURE(n);
      const fs::path out = folder / fmt::format("{}{}{}", order, dtype, n);
      const auto several = run_program(ranks(data, out, n, flags));
      REQUIRE_MESSAGE(several.code == 0, several.err);
      CHECK(contains(several.out, fmt::format("{} processes, started by sgtrain", n)));
      CHECK(several.err == "");
      const auto a = values(one, "loss"), b = values(out, "loss");
      REQUIRE(a.size() == 8);
      REQUIRE(b.size() == 8);
      if (order == "fixed") {
        CHECK(a == b);
        CHECK(last_tensors(out) == last_tensors(one));
        check_evaluations(out, one);
      } else {
        // Rounding, which AdamW's first steps amplify where a gradient is near 0.
        for (size_t i = 0; i < 8; ++i) CHECK(b[i] == doctest::Approx(a[i]).epsilon(1e-4));
        CHECK(b[0] == doctest::Approx(a[0]).epsilon(1e-6));
      }
    }
  }
}

TEST_CASE("ranks: a run goes on with another number of them, and sees the same images") {
  const TemporaryFolder folder;
  const fs::path data = folder / "data", out = folder / "out", whole = folder / "whole";
  write_idx(data, 64, 10);
  const std::string fixed = "--reduce-order fixed ", goes_on = fixed + "--resume auto ";
  REQUIRE(run_program(ranks(data, whole, 1, fixed)).code == 0);
  REQUIRE(run_program(ranks(data, out, 2, fixed + "--max-steps 3")).code == 0);
  const auto refused = run_program(
      sgtrain(data, out, "-b 4 --grad-accum 1 --nproc-per-node 2 --max-restarts 3 " + goes_on));
  CHECK(refused.code == 4);
  CHECK(
      contains(refused.err, "images a step          16 -> 8 (--grad-accum 2 makes them the same)"));
  CHECK(contains(refused.err, "[rank 1] error: rank 0 ("));
  CHECK(!contains(refused.err, "[rank 1]   images a step"));  // said once
  CHECK(!contains(refused.err, "go on from"));                // the same command would fail again
  CHECK(contains(run_program(sgtrain(data, out, "-b 6 --grad-accum 1 " + goes_on)).err,
                 "16 -> 6 (--batch-size 16 makes them the same)"));
  CHECK(!contains(refused.err, "restart 1"));
  // Without --mixup-group the group stays what it was.
  const auto four = run_program(
      sgtrain(data, out, "-b 4 --grad-accum 1 --nproc-per-node 4 --max-steps 5 " + goes_on));
  REQUIRE_MESSAGE(four.code == 0, four.err);
  REQUIRE(run_program(ranks(data, out, 1, goes_on)).code == 0);
  CHECK(last_tensors(out) == last_tensors(whole));
  CHECK(values(out, "loss") == values(whole, "loss"));
  check_evaluations(out, whole);
}

TEST_CASE("ranks: of another launcher: by the args.json of ours, on their share of the cores") {
  const TemporaryFolder folder;
  write_idx(folder / "data", 64, 8);
  const fs::path out = folder / "out", args = folder / "args.json";
  put(args, nlohmann::json{{"model", "sgformer_nano"},
                           {"data", (folder / "data").string()},
                           {"output", out.string()},
                           {"device", "cpu"},
                           {"batch_size", 4},
                           {"epochs", 1000},
                           {"log_interval", 1},
                           {"nproc_per_node", "2"},
                           {"max_restarts", 1}}
                .dump());
  const int port = 20000 + int(::getpid()) % 20000;
  std::vector<pid_t> started;
  for (int rank = 0; rank < 2; ++rank)
    started.push_back(
        start_program("sgtrain --config " + args.string(), folder / fmt::format("err{}", rank),
                      {"-u", "OMP_NUM_THREADS", fmt::format("RANK={}", rank), "WORLD_SIZE=2",
                       fmt::format("LOCAL_RANK={}", rank), "LOCAL_WORLD_SIZE=2",
                       "MASTER_ADDR=127.0.0.1", fmt::format("MASTER_PORT={}", port)}));
  CHECK_MESSAGE(wait_for_text(out / "train.log", "Train: 0 [2/"), read_file(folder / "err0"));
  for (const pid_t pid : started) ::kill(pid, SIGTERM);
  for (const pid_t pid : started) CHECK(finish(pid) == 75);
  const std::string log = read_file(out / "train.log");
  CHECK(contains(log, fmt::format("; {} compute and", std::max(1, usable_cores().usable / 2))));
  CHECK(contains(log, "go on by, as 2 processes of torchrun: "));
  const auto kept = nlohmann::json::parse(read_file(out / "args.json"));
  CHECK(kept["resolved"]["processes"] == 2);
  CHECK(kept["nproc_per_node"] == "");
}

TEST_CASE("ranks: those that were started differently are named, with both values") {
  const TemporaryFolder folder;
  const fs::path data = folder / "data", other = folder / "other";
  write_folders(data, 32, 8), write_folders(other, 32, 8);
  fs::rename(other / "train/bar0/0000.ppm", other / "train/bar0/zero.ppm");
  const auto run_two = [&](const fs::path& data_of_1, const std::string& flags_of_1,
                           const fs::path& programs_of_1 = program_folder()) {
    std::vector<pid_t> started;
    static int port = 20000 + int(::getpid()) % 20000;
    ++port;
    for (int rank = 0; rank < 2; ++rank) {
      const Environment programs("SG_BIN_DIR", (rank ? programs_of_1 : program_folder()).string());
      started.push_back(start_program(
          sgtrain(rank ? data_of_1 : data, folder / "out",
                  "--dist-timeout 10 " + (rank ? flags_of_1 : std::string())),
          folder / fmt::format("err{}", rank),
          {fmt::format("RANK={}", rank), "WORLD_SIZE=2", fmt::format("LOCAL_RANK={}", rank),
           "LOCAL_WORLD_SIZE=2", "MASTER_ADDR=127.0.0.1", fmt::format("MASTER_PORT={}", port)}));
    }
    for (const pid_t pid : started) CHECK(finish(pid) == 5);
    CHECK(!fs::exists(folder / "out"));
    CHECK(contains(read_file(folder / "err1"), "were not started alike"));
    return read_file(folder / "err0");
  };
  CHECK(contains(run_two(data, "--seed 43"), "seed                   42 on rank 0, 43 on rank 1"));
  CHECK(contains(run_two(data, "--smoothing 0.2"), "smoothing              0.1 on rank 0, 0.2 on"));
  const fs::path build = folder / "build";
  fs::create_directory(build);
  fs::copy_file(program_folder() / "sgtrain", build / "sgtrain");
  std::ofstream(build / "sgtrain", std::ios::app) << "another build";
  CHECK(contains(run_two(data, "", build), "options differs:\n  program   "));
  const std::string listing = run_two(other, "");
  CHECK(contains(listing, "training               {\"images\":32,\"names and labels\":"));
  CHECK(!contains(listing, "validation"));
}

TEST_CASE("ranks: one that is killed or stopped, in training or evaluation, is named by all") {
  const TemporaryFolder folder;
  const fs::path data = folder / "data";
  write_idx(data, 64, 4000);
  struct Loss {
    std::string place;
    int signal;
    size_t rank;
  };
  int run = 0;
  for (const auto& [place, signal, rank] :
       {Loss{"Train: 0 [2/4", SIGKILL, 1}, Loss{"Train: 0 [2/4", SIGSTOP, 0},
        Loss{"Test: [ ", SIGKILL, 0}, Loss{"Test: [ ", SIGSTOP, 1}}) {
    CAPTURE(run);
    const fs::path out = folder / fmt::format("out{}", ++run), err = folder / "err";
    const pid_t launcher =
        start_program(ranks(data, out, 2, "--dist-timeout 4 --validation-batch-size 8"), err);
    REQUIRE(wait_for_text(out / "train.log", place));
    const pid_t lost = ranks_of(launcher, 2)[rank];
    const auto begin = std::chrono::steady_clock::now();
    ::kill(lost, signal);
    CHECK(finish(launcher) == 5);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    CHECK(seconds.count() < (signal == SIGKILL ? 4 : 15));
    const std::string said = read_file(err);
    CHECK_MESSAGE(contains(said, fmt::format("rank {} (", rank)), said);
    CHECK_MESSAGE(contains(said, fmt::format("process {})", lost)), said);
  }
}

TEST_CASE("ranks: none ends before rank 0 has written all, since a launcher then ends the others") {
  if (!fs::exists(SG_SLOW_DISK)) return skip("no library that delays fsync()");
  const TemporaryFolder folder;
  const fs::path data = folder / "data", out = folder / "out";
  write_idx(data, 16, 8);
  std::vector<pid_t> started;
  for (const int rank : {0, 1})
    started.push_back(start_program(
        sgtrain(data, out, "--epochs 1 --dist-timeout 3"), folder / fmt::format("err{}", rank),
        {fmt::format("LD_PRELOAD={}", SG_SLOW_DISK), "ASAN_OPTIONS=verify_asan_link_order=0",
         fmt::format("RANK={}", rank), "WORLD_SIZE=2", "MASTER_ADDR=127.0.0.1",
         fmt::format("MASTER_PORT={}", 20000 + int(::getpid()) % 20000)}));
  CHECK(finish(started[1]) == 0);
  CHECK(fs::exists(out / "report.html"));  // which is written after the checkpoint
  CHECK(finish(started[0]) == 0);
}

}  // namespace sg
