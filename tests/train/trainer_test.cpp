#include "train/trainer.h"

#include <doctest/doctest.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <thread>

#include "dist/stop_signals.h"
#include "tests/support/process.h"
#include "tests/train/toy.h"
#include "tools/golden/relative_error.h"
#include "train/signals.h"

using namespace sg;
using namespace sg::test;

namespace {

constexpr int64_t kSteps = 18;  // three epochs of six

// Asks this process to stop, as another would.
void ask_to_stop(int signal) {
  ::kill(::getpid(), signal);
  while (!train::stop_signal()) std::this_thread::yield();
}

// A run that is asked to stop in each of `stops` (counted over the run) and resumed each time.
void stopped_and_resumed(ToyRun& whole, train::Options options, std::vector<int64_t> stops) {
  const TemporaryFolder folder;
  stops.push_back(-1);
  for (int64_t stop : stops) {
    const train::StopSignals signals;
    ToyRun part{.folder = folder.path(), .options = options, .task = Toy(whole.task.store.dtype())};
    part.task.hook = [stop](int64_t step) {
      if (step == stop && !train::stop_signal()) ask_to_stop(SIGTERM);
      return 1.0;
    };
    const ExitCode code = part.go();
    CHECK(code == (stop < 0 ? ExitCode::ok : ExitCode::interrupted));
    if (stop >= 0) {
      CHECK(part.trainer->state().step == stop + 1);
    } else {
      CHECK(part.bits() == whole.bits());
      CHECK(part.log() == whole.log());
    }
  }
}

}  // namespace

TEST_CASE("trainer: learns, and each epoch has the learning rate of the schedule") {
  const TemporaryFolder folder;
  ToyRun run{.folder = folder.path()};
  CHECK(run.go() == ExitCode::ok);
  CHECK(run.trainer->state().step == kSteps);
  CHECK(run.trainer->state().best > 60);
  std::istringstream lines(run.log());
  std::vector<double> rates;
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("{")) {
      const auto row = nlohmann::json::parse(line);
      const CosineSchedule s{2, 1, 1, 0.05, 0.001, 0.02};
      CHECK(row["lr"] == s.at(row["epoch"]));
      rates.push_back(row["lr"]);
    }
  CHECK(rates.size() == kSteps + 3);
  CHECK(contains(read_file(folder / "summary.csv"),
                 "epoch,train_loss,eval_loss,eval_top1,eval_top5\n0,"));
  for (const char* name : {"last", "best", "checkpoint-0000", "checkpoint-0002"})
    CHECK(std::filesystem::exists(folder / "checkpoints" / (std::string(name) + ".safetensors")));
}

TEST_CASE("trainer: the averaged weights are evaluated, and choose the best epoch") {
  const TemporaryFolder folder;
  ToyRun run{.folder = folder.path()};
  run.options.model_ema_decay = 1 - 1e-6;  // they stay at the initial values
  CHECK(run.go() == ExitCode::ok);
  auto epochs = report::RunLog(folder.path(), kSteps, 3, run.task.schema()).rows();
  std::erase_if(epochs, [](const auto& row) { return !row.contains("eval_top1"); });
  REQUIRE(epochs.size() == 3);
  for (const auto& row : epochs) {
    CHECK(row["eval_top1"] == epochs[0]["eval_top1"]);
    CHECK(row["eval_model_top1"] > row["eval_top1"]);
  }
  CHECK(run.trainer->state().best == epochs[0]["eval_top1"]);
  CHECK(run.trainer->state().best_epoch == 0);
}

TEST_CASE("trainer: stopped in any step and resumed is never stopped, bit for bit") {
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
    CAPTURE(name_of(dtype));
    const TemporaryFolder folder;
    ToyRun whole{.folder = folder.path(), .task = Toy(dtype)};
    CHECK(whole.go() == ExitCode::ok);
    for (int64_t k = 0; k < kSteps; ++k) {
      CAPTURE(k);
      stopped_and_resumed(whole, toy_options(), {k});
    }
    stopped_and_resumed(whole, toy_options(), {0, 3, 4, 5, 6, 11, 17});
  }
}

TEST_CASE("trainer: resumes in the midst of accumulated gradients and clipping") {
  train::Options options = toy_options();
  options.grad_accum = 2, options.clip_grad = 0.1, options.recovery_interval = 2;
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
    CAPTURE(name_of(dtype));
    const TemporaryFolder folder;
    ToyRun whole{.folder = folder.path(), .options = options, .task = Toy(dtype)};
    CHECK(whole.go() == ExitCode::ok);
    CHECK(whole.trainer->state().step == 9);
    stopped_and_resumed(whole, options, {0, 1, 2, 5, 8});
  }
}

TEST_CASE("trainer: in bf16 the numbers of f32; a run goes on in either, with the same weights") {
  const TemporaryFolder folders[2];
  const auto run_in = [&](size_t folder, Dtype dtype, int64_t steps) {
    ToyRun run{.folder = folders[folder].path(), .task = Toy(dtype)};
    run.options.max_steps = steps;
    CHECK(run.go() == ExitCode::ok);
    return run.bits();
  };
  const Dtype dtypes[] = {Dtype::f32, Dtype::bf16};
  std::vector<std::vector<float>> half, whole;
  for (const size_t i : {0, 1}) {
    half.push_back(run_in(i, dtypes[i], kSteps / 2));
    // What a checkpoint holds are the f32 weights, moments and averages.
    Toy task(dtypes[1 - i]);
    report::Console console(true);
    train::Trainer other(toy_options(), task, console);
    other.restore(train::find_resumable(folders[i] / "checkpoints")->checkpoint);
    CHECK(bits_of(other) == half[i]);
    whole.push_back(run_in(i, dtypes[1 - i], 0));
  }
  CHECK(half[0] != half[1]);
  // Weights and inputs rounded to 2^-9 on the way to each gradient; AdamW's steps have the size of
  // the learning rate whatever the gradient's, so they differ where a gradient is near zero.
  const auto n = int64_t(whole[0].size());
  for (const auto& bits : {half, whole})
    CHECK(relative_error_of(from_vector(bits[1], {n}), from_vector(bits[0], {n})).whole <
          kSteps * 2 * 0x1p-9);
}

TEST_CASE("trainer: a process that is killed loses no more than the steps since its checkpoint") {
  train::Options options = toy_options();
  options.recovery_interval = 4;
  const TemporaryFolder folder, other;
  ToyRun whole{.folder = folder.path(), .options = options};
  CHECK(whole.go() == ExitCode::ok);
  {
    ToyRun killed{.folder = other.path(), .options = options};
    killed.task.hook = [](int64_t step) -> double {
      if (step == 15) throw std::runtime_error("as if killed");
      return 1;
    };
    CHECK_THROWS(killed.go());
  }
  ToyRun rest{.folder = other.path(), .options = options};
  int64_t first = -1;
  rest.task.hook = [&](int64_t step) {
    if (first < 0) first = step;
    return 1.0;
  };
  CHECK(rest.go() == ExitCode::ok);
  CHECK(first == 12);  // the epoch's checkpoint, and the newest of all
  CHECK(rest.bits() == whole.bits());
  CHECK(rest.log() == whole.log());
}

TEST_CASE("trainer: a signal during evaluation, and one before the first step") {
  const TemporaryFolder folder, other;
  ToyRun whole{.folder = folder.path()};
  CHECK(whole.go() == ExitCode::ok);
  int evaluations = 0;
  for (int stop : {0, 1, 3, -1}) {  // before the first step, and in the first and third evaluation
    const train::StopSignals signals;
    ToyRun part{.folder = other.path()};
    if (stop == 0) ask_to_stop(SIGUSR1);
    part.task.while_evaluating = [&] {
      if (++evaluations == stop) ask_to_stop(SIGINT);
    };
    const ExitCode code = part.go();
    CHECK(code == (stop < 0 ? ExitCode::ok : ExitCode::interrupted));
    if (stop < 0) CHECK(part.bits() == whole.bits());
    if (stop < 0) CHECK(part.log() == whole.log());
  }
}

TEST_CASE("trainer: signals do not interrupt threads that compute") {
  const auto blocked = [] {
    sigset_t set;
    ::pthread_sigmask(SIG_BLOCK, nullptr, &set);
    return std::array{::sigismember(&set, SIGTERM), ::sigismember(&set, SIGINT),
                      ::sigismember(&set, SIGUSR1)};
  };
  const auto before = blocked();
  {
    const train::StopSignals signals;
    CHECK(blocked() == std::array{1, 1, 1});
    std::thread([&] { CHECK(blocked() == std::array{1, 1, 1}); }).join();
  }
  CHECK(blocked() == before);
}

TEST_CASE("signals: while there is nothing to save one ends the program, then it is noted") {
  using train::StopSignals;
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2}) {
    CHECK(wait_for(start_child([&] {
            const StopSignals signals(StopSignals::Begin::nothing_to_save);
            ::kill(::getpid(), signal);
            ::sleep(60);
            return 0;
          })) == 128 + signal);
    CHECK(wait_for(start_child([&] {
            StopSignals signals(StopSignals::Begin::nothing_to_save);
            signals.save_first();
            ask_to_stop(signal);
            return train::stop_signal() == signal ? 7 : 8;
          })) == 7);
  }
  // timeout(1) and schedulers send one request twice; a second request ends the program.
  for (const bool again : {false, true})
    CHECK(wait_for(start_child([&] {
            const StopSignals signals;
            ask_to_stop(SIGTERM);
            ::kill(::getpid(), SIGTERM);
            std::this_thread::sleep_for(dist::StopRequests::kOneRequest * again);
            if (again) ::kill(::getpid(), SIGTERM);
            ::usleep(200'000);
            return 7;
          })) == (again ? 128 + SIGTERM : 7));
  // As nohup starts a program.
  CHECK(wait_for(start_child([&] {
          ::signal(SIGHUP, SIG_IGN);
          const StopSignals signals;
          ::kill(::getpid(), SIGHUP);
          ask_to_stop(SIGTERM);
          return train::stop_signal() == SIGTERM ? 7 : 8;
        })) == 7);
}

TEST_CASE("trainer: what is not finite is skipped and counted; only the EMA moves on") {
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
    CAPTURE(name_of(dtype));
    const TemporaryFolder folder;
    ToyRun run{.folder = folder.path(), .task = Toy(dtype)};
    run.options.epochs = 1, run.options.warmup_epochs = 0, run.options.cooldown_epochs = 0;
    run.task.hook = [](int64_t step) { return step == 2 || step == 3 ? NAN : 1.0; };
    CHECK(run.go() == ExitCode::ok);
    CHECK(run.trainer->state().skipped == 2);
    CHECK(run.trainer->state().skipped_in_a_row == 0);
    CHECK(run.trainer->state().step == 6);
    for (float v : run.bits()) CHECK(std::isfinite(v));
    CHECK(run.trainer->checkpoint(nlohmann::json::object()).state["updates"] == 4);
  }
}

TEST_CASE("trainer: ten such steps in a row end the run and keep the last checkpoint") {
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
    CAPTURE(name_of(dtype));
    const TemporaryFolder folder;
    ToyRun run{.folder = folder.path(), .task = Toy(dtype)};
    run.options.epochs = 20;
    run.task.hook = [](int64_t step) { return step >= 7 ? INFINITY : 1.0; };
    const std::string message = error_of(ExitCode::nonfinite, [&] { run.go(); });
    CHECK(contains(message, "10 steps in a row"));
    CHECK(run.trainer->state().step == 17);
    const auto kept = train::find_resumable(folder / "checkpoints");
    REQUIRE(kept);
    CHECK(kept->checkpoint.state["step"] == 6);  // the epoch that ended while steps were skipped
                                                 // does not take its place
    for (const auto& [name, tensor] : kept->checkpoint.tensors)
      for (float v : tensor.span<float>()) CHECK(std::isfinite(v));
  }
}

TEST_CASE("trainer: accumulated batches are one batch") {
  // The same 24 samples an epoch, in steps of 8.
  const auto weights = [](int64_t batch, int64_t accum) {
    const TemporaryFolder folder;
    ToyRun run{.folder = folder.path()};
    run.task.batch = batch, run.task.batches_of_epoch = 24 / batch;
    run.options.grad_accum = accum;
    CHECK(run.go() == ExitCode::ok);
    return run.bits();
  };
  const auto one = weights(8, 1), two = weights(4, 2), four = weights(2, 4);
  REQUIRE(one.size() == two.size());
  for (size_t i = 0; i < one.size(); ++i) {
    // Sums of 8 in another order, carried through 9 steps.
    CHECK(one[i] == doctest::Approx(two[i]).epsilon(1e-4));
    CHECK(one[i] == doctest::Approx(four[i]).epsilon(1e-4));
  }
}

TEST_CASE("trainer: --max-steps ends early, evaluates, and can be taken further") {
  const TemporaryFolder folder, other;
  ToyRun whole{.folder = folder.path()};
  CHECK(whole.go() == ExitCode::ok);
  for (int64_t most : {4, 4, 6, 8, 0}) {
    ToyRun part{.folder = other.path()};
    part.options.max_steps = most;
    CHECK(part.go() == ExitCode::ok);
    CHECK(part.trainer->state().step == (most ? most : kSteps));
    const std::string summary = read_file(other / "summary.csv");
    CHECK(std::ranges::count(summary, '\n') == 1 + (most ? (most + 5) / 6 : 3));
    if (!most) CHECK(part.bits() == whole.bits());
    if (!most) CHECK(part.log() == whole.log());
  }
}

TEST_CASE("trainer: a checkpoint of another model is refused with what differs") {
  const TemporaryFolder folder;
  {
    ToyRun run{.folder = folder.path()};
    CHECK(run.go() == ExitCode::ok);
  }
  auto from = train::find_resumable(folder / "checkpoints");
  REQUIRE(from);
  for (auto& [name, tensor] : from->checkpoint.tensors)
    if (name == "fc.weight") tensor = zeros({4, Toy::kFeatures});
  Toy task;
  report::Console console(true);
  train::Trainer trainer(toy_options(), task, console);
  const std::string message =
      error_of(ExitCode::checkpoint, [&] { trainer.restore(from->checkpoint); });
  CHECK(contains(message, "fc.weight"));
  CHECK(contains(message, "(4, 5)"));
}

TEST_CASE("trainer: too few images for a step") {
  Toy task;
  report::Console console(true);
  train::Options options = toy_options();
  options.grad_accum = 7;
  CHECK(contains(error_of(ExitCode::usage, [&] { train::Trainer(options, task, console); }),
                 "--grad-accum"));
}

TEST_CASE("trainer: the share of time waited for data is in log, metrics and the epoch's line") {
  struct Slow : Toy {
    double wait = 0;
    tasks::Batch load_batch(const tasks::BatchPosition& position) override {
      std::this_thread::sleep_for(std::chrono::duration<double>(wait));
      tasks::Batch batch = Toy::load_batch(position);
      batch.waited = wait;
      return batch;
    }
  };
  const auto run_with = [](double wait, const std::filesystem::path& folder) {
    RunOf<Slow> run{.folder = folder};
    run.options.workers = 3;
    run.task.wait = wait;
    run.console.open_log(folder / "train.log");
    CHECK(run.go() == ExitCode::ok);
    return read_file(folder / "train.log");
  };
  const TemporaryFolder slow, fast;
  const std::string log = run_with(0.02, slow.path());
  CHECK(contains(log, " Data: 0.020 ("));  // timm's form, and a share for its mean
  CHECK(contains(log, "; steps waited "));
  CHECK(contains(log, " % of their time for data (--workers 3)\n"));
  std::istringstream lines(read_file(slow / "metrics.jsonl"));
  int rows = 0;
  for (std::string line; std::getline(lines, line); ++rows) {
    const double share = nlohmann::json::parse(line)["data_share"];
    CHECK(share > 0);
    CHECK(share <= 1);
  }
  CHECK(rows == kSteps + 3);
  const std::string quick = run_with(0, fast.path());
  CHECK(contains(quick, " Data: 0.000 (0 %)\n"));
  CHECK_FALSE(contains(quick, "waited"));
}

TEST_CASE("trainer: --patience-epochs ends a run that gets no better, also when it was resumed") {
  const TemporaryFolder folder;
  train::Options options = toy_options();
  options.epochs = 6, options.warmup_epochs = 0;
  options.lr = options.min_lr = options.warmup_lr = 1e-12;  // the first epoch stays the best
  const auto run_with = [&](int64_t patience, int64_t most_steps) {
    ToyRun run{.folder = folder.path(), .options = options};
    run.options.patience_epochs = patience, run.options.max_steps = most_steps;
    run.console.open_log(folder / "train.log");
    CHECK(run.go() == ExitCode::ok);
    CHECK(run.trainer->finished());
    return run.trainer->state().step;
  };
  CHECK(run_with(3, 8) == 8);  // in the second epoch
  CHECK_FALSE(contains(read_file(folder / "train.log"), "early stop"));
  CHECK(run_with(3, 0) == 4 * 6);
  CHECK(
      contains(read_file(folder / "train.log"), "early stop: 3 epochs without a better top1 than"));
  CHECK(run_with(3, 0) == 4 * 6);  // once more: it is done
  CHECK(run_with(4, 0) == 5 * 6);
  CHECK(run_with(0, 0) == 7 * 6);  // a cooldown among them
}

TEST_CASE("trainer: patience goes on from the best of the checkpoint where the log lacks it") {
  const TemporaryFolder folder;
  train::Options options = toy_options();
  options.epochs = 12, options.warmup_epochs = 0;
  options.lr = options.min_lr = options.warmup_lr = 1e-12;  // the first epoch stays the best
  options.max_steps = 3 * 6;
  std::filesystem::create_directories(folder / "first");
  ToyRun first{.folder = folder / "first", .options = options};
  REQUIRE(first.go() == ExitCode::ok);
  const double best = first.trainer->state().best;

  const auto go_on = [&](const char* name, bool best_is_known) {
    const auto checkpoints = folder / name / "checkpoints";
    std::filesystem::create_directories(checkpoints);
    Checkpoint c = load_checkpoint(folder / "first/checkpoints/last.safetensors");
    if (!best_is_known) c.state.erase("best"), c.state.erase("best_epoch");
    save_checkpoint(checkpoints / "checkpoint-0002.safetensors", c);
    ToyRun run{.folder = folder / name, .options = options};
    run.options.max_steps = 0, run.options.patience_epochs = 3;
    if (best_is_known) run.options.patience_epochs = 5;
    CHECK(run.go() == ExitCode::ok);
    return run.trainer->state();
  };
  const train::TrainState known = go_on("known", true);
  CHECK(known.best_epoch == 0);
  CHECK(known.best == best);
  CHECK(known.step == 6 * 6);  // five epochs after the first
  const train::TrainState unknown = go_on("unknown", false);
  CHECK(unknown.best_epoch == 3);  // of those since
  CHECK(unknown.step == 7 * 6);
}

TEST_CASE("a run tells which convolutions it has, and where those of its checkpoint were others") {
  const TemporaryFolder folder;
  ToyRun first{.folder = folder.path()};
  first.options.max_steps = 2;
  REQUIRE(first.go() == ExitCode::ok);
  Checkpoint saved = first.trainer->checkpoint(nlohmann::json::object());
  CHECK(contains(saved.state["convolutions"][0].get<std::string>(), "oneDNN"));

  for (const bool others : {false, true}) {
    if (others) saved.state["convolutions"] = {"convolutions: of another library"};
    ToyRun next;
    next.console.open_log(folder / "said");
    next.trainer.emplace(next.options, next.task, next.console);
    next.trainer->restore(saved);
    next.trainer->run(nullptr);
    const std::string said = read_file(folder / "said");
    CHECK(contains(said, "convolutions: oneDNN"));
    CHECK(contains(said, "the checkpoint was made with others") == others);
  }
}
