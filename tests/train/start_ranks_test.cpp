// What --nproc-per-node starts.
#include "train/start_ranks.h"

#include <doctest/doctest.h>

#include "core/backend.h"
#include "core/cpu/cores.h"
#include "setups/setups.h"
#include "tests/support/environment.h"
#include "tests/support/faults.h"
#include "tests/support/files.h"
#include "train/run_folder.h"

using namespace sg;
using namespace sg::test;
using namespace sg::train;
namespace fs = std::filesystem;
using Words = std::vector<std::string>;

namespace {

Options options(const std::string& nproc, const std::string& device = "cpu") {
  Options o = setups::default_options("sgformer_nano");
  o.data = "d", o.nproc_per_node = nproc, o.device = device;
  return o;
}

dist::LauncherSettings settings_of(const Options& o, const Words& words = {"sgtrain", "d"}) {
  return launcher_settings(o, words);
}

std::string refused(const Options& o) {
  return error_of(ExitCode::usage, [&] { settings_of(o); });
}

}  // namespace

TEST_CASE("ranks: how many") {
  CHECK(settings_of(options("1")).ranks == 1);
  CHECK(settings_of(options("3")).ranks == 3);
  for (const char* wrong : {"0", "-1", "1.5", "two", "auto", "1000000"})
    CHECK_MESSAGE(contains(refused(options(wrong)), fmt::format("or gpu, found '{}'", wrong)),
                  wrong);
  const int cores = usable_cores().usable;
  if (const int most = 16 * cores; most < 1024)
    CHECK(
        contains(refused(options(std::to_string(most + 1))),
                 fmt::format("expected at most {} processes, 16 for each of the {} cores, found {}",
                             most, cores, most + 1)));
  CHECK(contains(refused(options("gpu")), "counts GPUs, but --device is cpu"));
  CHECK(contains(refused(options("2", "cuda:0")), "--device cuda:0: is one GPU"));
  // What is wrong with the run itself is said once, not by each rank.
  Options o = options("2");
  o.lr_base_scale = "none";
  CHECK(contains(refused(o), "--lr-base-scale"));
  if (!cuda_is_emulated || cuda_required()) return;  // with one GPU
  CHECK(settings_of(options("gpu", "auto")).ranks == 1);
  for (const char* device : {"auto", "cuda"})
    CHECK(
        contains(refused(options("2", device)),
                 "expected at most the 1 GPU of this host, found 2; give fewer, or --device cpu"));
}

TEST_CASE("ranks: who starts them") {
  const dist::Launch alone;
  CHECK(starts_ranks(options("2"), alone));
  CHECK(!starts_ranks(options(""), alone));
  {
    const Environment rank("SG_LAUNCHER", "sgtrain");
    CHECK(!starts_ranks(options("2"), {.rank = 1, .ranks = 2, .launcher = "sgtrain"}));
  }
  const dist::Launch of_torchrun{.rank = 3, .ranks = 8, .launcher = "torchrun"};
  CHECK(!starts_ranks(options(""), of_torchrun));
  CHECK(contains(
      error_of(ExitCode::usage, [&] { starts_ranks(options("2"), of_torchrun); }),
      "--nproc-per-node: torchrun has started 8 processes already, and this is rank 3 of them"));
  CHECK(contains(error_of(ExitCode::usage, [&] { starts_ranks(options("2"), of_torchrun); }),
                 "(--nproc-per-node '' where a --config has it)"));
  Options o = options("");
  o.max_restarts = 2;
  CHECK(contains(error_of(ExitCode::usage, [&] { starts_ranks(o, alone); }),
                 "--max-restarts: of --nproc-per-node, which is missing"));
}

TEST_CASE("ranks: one folder, and one flag that says which") {
  Options o = options("2");
  o.max_restarts = 3, o.dist_timeout = 40;
  const auto s = settings_of(o, {"sgtrain", "--nproc-per-node", "2", "d"});
  const Words command = s.start(0).command;
  REQUIRE(command.size() == 6);
  CHECK(command[1] == "--output");
  CHECK(command[2].starts_with("output/train/2"));
  CHECK(command[2].ends_with("-sgformer_nano-28"));
  CHECK(command[3] == "--nproc-per-node");
  CHECK(s.start(1).command == command);  // the same folder
  CHECK(s.start(1).checkpoint.empty());
  CHECK(s.max_restarts == 3);
  CHECK(s.timeout.count() == 40);
  CHECK(s.set_threads);
  o.output = "out", o.threads = 2, o.dry_run = true;
  const auto given = settings_of(o, {"sgtrain", "d"});
  CHECK(given.start(0).command == Words{"sgtrain", "d"});
  CHECK(!given.set_threads);
  CHECK(given.max_restarts == 0);
}

TEST_CASE("ranks: they go on from what they have saved") {
  const TemporaryFolder folder;
  Options o = options("2");
  o.output = folder.path().string();
  fs::create_directories(folder / kCheckpoints);
  const fs::path last = folder / kCheckpoints / "last.safetensors";
  put(last, "of a run before");

  // Until there is something newer they do as they were told.
  o.resume = "other.safetensors";
  const Words words{"sgtrain", "d", "--resume", o.resume, "--start-epoch=3", "--epochs", "7"};
  const auto s = settings_of(o, words);
  CHECK(s.start(1).command == words);
  CHECK(s.start(1).checkpoint == o.resume);
  put(last, "of this run");
  CHECK(s.start(2).command == Words{"sgtrain", "--resume", "auto", "d", "--epochs", "7"});
  CHECK(s.start(2).checkpoint == last.string());

  o.resume = "auto";
  const auto automatic = settings_of(o, {"sgtrain", "d", "--resume", "auto"});
  CHECK(automatic.start(1).checkpoint == last.string());
  fs::remove(last);
  CHECK(automatic.start(1).checkpoint.empty());
}
