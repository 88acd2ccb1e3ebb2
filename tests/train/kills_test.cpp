// Ranks under the launcher, killed a hundred times at random.
#include <signal.h>
#include <unistd.h>

#include <random>

#include "dist/launcher.h"
#include "tests/support/process.h"
#include "tests/train/toy.h"

using namespace sg;
using namespace sg::test;
namespace fs = std::filesystem;

namespace {

constexpr const char *kFolder = "SG_TEST_RUN", *kHurry = "hurry";
constexpr int kRanks = 2, kKills = 100;

// Each rank has its part of the samples of a step. Steps take long enough to be killed in, until
// the folder says otherwise.
struct SharedToy : Toy {
  dist::Group* group = &dist::alone();
  SharedToy() { batches_of_epoch = 20; }
  tasks::Batch load_batch(const tasks::BatchPosition& position) override {
    next = next * group->ranks() + group->rank();
    const tasks::Batch b = Toy::load_batch(position);
    next = (next - 1) / group->ranks() + 1;
    return b;
  }
};

// What sgtrain does with a rank of a run, with a task of milliseconds.
ExitCode run_rank(const fs::path& folder) {
  const dist::Launch launch = dist::launch_of_environment();
  const auto group = dist::join(launch, {.timeout = std::chrono::seconds(20)});
  train::Options options = toy_options();
  options.epochs = 30, options.recovery_interval = fs::exists(folder / kHurry) ? 0 : 1;
  SharedToy task;
  task.group = group.get();
  // Not to its end while it is to be killed.
  const int64_t last_epoch = task.batches_of_epoch * (options.epochs - 1);
  task.hook = [&](int64_t step) {
    if (!fs::exists(folder / kHurry)) ::usleep(20'000);
    while (step >= last_epoch && !fs::exists(folder / kHurry)) ::usleep(1000);
    return 1.0;
  };
  report::Console console(true);
  console.mute();
  train::Trainer trainer(options, task, console, *group);
  if (group->leads())
    if (const auto from = train::find_resumable(folder / "checkpoints"))
      trainer.restore(from->checkpoint);
  trainer.share();
  if (!group->leads()) return trainer.run(nullptr);
  train::Outputs outputs{.log = report::RunLog(folder, trainer.state().step,
                                               trainer.unevaluated_epoch(), task.schema()),
                         .checkpoints = train::CheckpointFolder(folder / "checkpoints", 1),
                         .identity = nlohmann::json::object()};
  return trainer.run(&outputs);
}

// The launcher in a process of its own; its ranks are this program, which then runs the test below.
pid_t start_launcher(const fs::path& folder) {
  return start_child([&] {
    ::setenv(kFolder, folder.c_str(), 1);
    if (!std::freopen((folder / "said").c_str(), "w", stderr)) return 98;
    dist::LauncherSettings settings{.ranks = kRanks, .max_restarts = kKills};
    settings.backoff = std::chrono::seconds(0);  // it would double with each kill before a save
    settings.patience = std::chrono::milliseconds(200);
    settings.start = [&](int64_t) {
      const fs::path last = folder / "checkpoints/last.safetensors";
      return dist::LauncherStart{{"test_train", "--test-case=a rank of a run", "--no-skip"},
                                 fs::exists(last) ? last.string() : ""};
    };
    try {
      return int(dist::launch(settings));
    } catch (const Error& e) {
      std::fprintf(stderr, "%s\n", e.what());
      return int(e.code());
    }
  });
}

fs::file_time_type time_of_last(const fs::path& folder) {
  std::error_code absent;
  return fs::last_write_time(folder / "checkpoints/last.safetensors", absent);
}

std::vector<std::vector<float>> last_tensors(const fs::path& folder) {
  std::vector<std::vector<float>> all;
  for (const auto& [name, t] : load_checkpoint(folder / "checkpoints/last.safetensors").tensors)
    all.push_back(to_vector<float>(t));
  return all;
}

}  // namespace

TEST_CASE("a rank of a run" * doctest::skip()) {
  const char* const folder = std::getenv(kFolder);
  REQUIRE(folder);
  if (run_rank(folder) != ExitCode::ok) FAIL("the run did not end");
}

TEST_CASE("killed a hundred times at random, a run ends with the bits of one that was left alone") {
  const TemporaryFolder disturbed, whole;
  put(whole / kHurry, "");
  CHECK(wait_for(start_launcher(whole.path())) == 0);
  const pid_t launcher = start_launcher(disturbed.path());
  std::mt19937 random(1);
  int kills = 0;
  std::vector<pid_t> killed;
  while (kills < kKills) {
    const std::vector<pid_t> ranks = children_of(launcher);
    if (ranks.size() == kRanks && ranks != killed) {
      // Every second time once it has gone on: a slow machine is killed before it does, else.
      const auto before = time_of_last(disturbed.path());
      for (int i = 0; kills % 2 && i < 1000 && time_of_last(disturbed.path()) == before; ++i)
        ::usleep(1000);
      ::usleep(useconds_t(random() % 300'000));
      kills += ::kill(ranks[random() % kRanks], SIGKILL) == 0;
      killed = ranks;
    }
    int status = 0;
    REQUIRE_MESSAGE(::waitpid(launcher, &status, WNOHANG) == 0, read_file(disturbed / "said"));
    ::usleep(1000);
  }
  put(disturbed / kHurry, "");
  CHECK_MESSAGE(wait_for(launcher) == 0, read_file(disturbed / "said"));
  const std::string said = read_file(disturbed / "said");
  CHECK(contains(said, fmt::format("restart {0} of {0}", kKills)));
  CHECK(!contains(said, "SIGABRT"));  // those that were not killed ended by themselves
  CHECK(last_tensors(disturbed.path()) == last_tensors(whole.path()));
  CHECK(read_file(disturbed / "summary.csv") == read_file(whole / "summary.csv"));
}
