// What trainer, checkpoints, run log and report make of a task that is not classification.
#include <doctest/doctest.h>
#include <signal.h>
#include <unistd.h>

#include <set>
#include <thread>

#include "tests/support/skip.h"
#include "tests/train/dense_toy.h"
#include "train/signals.h"

using namespace sg;
using namespace sg::test;

namespace {

struct CudaDenseToy : DenseToy {
  CudaDenseToy() : DenseToy(kCuda) {}
};

train::Options options(int64_t grad_accum = 1, int64_t epochs = 2) {
  train::Options o = toy_options();
  o.eval_metric = "";  // the task's own
  o.epochs = epochs, o.cooldown_epochs = 0;
  o.grad_accum = grad_accum, o.weight_decay = 0;
  return o;
}

std::vector<nlohmann::json> rows(const std::string& log) {
  std::vector<nlohmann::json> result;
  std::istringstream lines(log);
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("{")) result.push_back(nlohmann::json::parse(line));
  return result;
}

}  // namespace

TEST_CASE("dense task: learns, with the parts of its loss and its own schedule in the log") {
  const TemporaryFolder folder;
  RunOf<DenseToy> run{.folder = folder.path(), .options = options(1, 3)};
  const double before = (*run.task.evaluate([](auto...) { return true; }))["error"];
  REQUIRE(run.go() == ExitCode::ok);
  const Schedule schedule = *run.task.schedule(18);
  std::vector<double> errors;
  std::set<double> rates;
  for (const auto& row : rows(run.log())) {
    CHECK(row["lr"] == learning_rate(schedule, 0, row["step"].get<int64_t>() - 1));
    rates.insert(row["lr"].get<double>());
    if (report::is_epoch_row(row)) {
      errors.push_back(row["eval_error"]);
      CHECK(row["eval_model_loss"].is_number());
      continue;
    }
    // Each pixel is in one part: sums of at most 144 terms in another order.
    CHECK(row["loss_ground"].get<double>() + row["loss_object"].get<double>() ==
          doctest::Approx(row["loss"].get<double>()).epsilon(144 * 0x1p-24));
  }
  CHECK(rates.size() == 18);  // changes at each step
  REQUIRE(errors.size() == 3);
  const auto best = std::ranges::min_element(errors);
  CHECK(*best < before / 2);
  CHECK(run.trainer->state().best == *best);
  CHECK(run.trainer->state().best_epoch == best - errors.begin());
  CHECK(std::filesystem::equivalent(
      folder / "checkpoints/best.safetensors",
      folder / fmt::format("checkpoints/checkpoint-000{}.safetensors", best - errors.begin())));
  CHECK(read_file(folder / "summary.csv").starts_with("epoch,train_loss,eval_loss,eval_error\n"));

  report::RunLog log(folder.path(), 18, 3, run.task.schema());
  const std::string page = report::report_html({.title = "toy",
                                                .data = "Drawn images.",
                                                .configuration = {},
                                                .rows = log.rows(),
                                                .scores = run.task.schema(),
                                                .epoch_steps = 6,
                                                .epochs = 3});
  CHECK(contains(page, fmt::format("<b>{:.1f} %</b><span>wrong pixels, best of all", *best)));
  CHECK(!contains(page, "top-1"));
}

TEST_CASE("dense task: stopped in any step and resumed is never stopped, bit for bit") {
  for (const int64_t accum : {1, 2}) {
    const TemporaryFolder folder, other;
    RunOf<DenseToy> whole{.folder = folder.path(), .options = options(accum)};
    REQUIRE(whole.go() == ExitCode::ok);
    for (const int64_t stop : {0, 3, 5, -1}) {
      const train::StopSignals signals;
      RunOf<DenseToy> part{.folder = other.path(), .options = options(accum)};
      part.task.hook = [stop](int64_t step) {
        if (step != stop || train::stop_signal()) return;
        ::kill(::getpid(), SIGTERM);
        while (!train::stop_signal()) std::this_thread::yield();
      };
      CHECK(part.go() == (stop < 0 ? ExitCode::ok : ExitCode::interrupted));
      if (stop >= 0) continue;
      CHECK(part.bits() == whole.bits());
      CHECK(part.log() == whole.log());
    }
  }
}

TEST_CASE("dense task on cuda: steps of two sizes, recorded, have the bits of those issued") {
  if (!have_cuda()) return;
  for (const int64_t accum : {1, 2}) {
    const TemporaryFolder folder, other;
    RunOf<CudaDenseToy> recorded{.folder = folder.path(), .options = options(accum)};
    RunOf<CudaDenseToy> eager{.folder = other.path(), .options = options(accum)};
    eager.options.eager = true;
    REQUIRE(recorded.go() == ExitCode::ok);
    REQUIRE(eager.go() == ExitCode::ok);
    CHECK(recorded.bits() == eager.bits());
    CHECK(recorded.log() == eager.log());
  }
}

TEST_CASE_TEMPLATE("dense task: ended early by --max-steps and resumed", Task, DenseToy,
                   CudaDenseToy) {
  if (std::is_same_v<Task, CudaDenseToy> && !have_cuda()) return;
  const TemporaryFolder folder, other;
  RunOf<Task> whole{.folder = folder.path(), .options = options(2)};
  REQUIRE(whole.go() == ExitCode::ok);
  for (const int64_t most : {2, 4, 0}) {
    RunOf<Task> part{.folder = other.path(), .options = options(2)};
    part.options.max_steps = most;
    REQUIRE(part.go() == ExitCode::ok);
    if (!most) CHECK(part.bits() == whole.bits());
  }
}

TEST_CASE("a run of --steps ends there, its schedule too; --eval-interval leaves out evaluations") {
  const TemporaryFolder folder, other;
  const auto set = [](train::Options o) {
    o.steps = 28, o.eval_interval = 10;  // epochs end at 6, 12, 18, 24 and, by the steps, 28
    return o;
  };
  RunOf<DenseToy> whole{.folder = folder.path(), .options = set(options())};
  REQUIRE(whole.go() == ExitCode::ok);
  CHECK(whole.trainer->total_epochs() == 5);
  CHECK(whole.trainer->total_steps() == 28);
  const Schedule schedule = *whole.task.schedule(28);
  std::vector<int64_t> evaluated;
  for (const auto& row : rows(whole.log())) {
    CHECK(row["lr"] == learning_rate(schedule, 0, row["step"].get<int64_t>() - 1));
    if (report::is_epoch_row(row)) evaluated.push_back(row["step"]);
  }
  CHECK(evaluated == std::vector<int64_t>{12, 24, 28});

  for (const int64_t stop : {7, 25, -1}) {  // an epoch after one that was not evaluated, the last
    const train::StopSignals signals;
    RunOf<DenseToy> part{.folder = other.path(), .options = set(options())};
    part.task.hook = [stop](int64_t step) {
      if (step != stop || train::stop_signal()) return;
      ::kill(::getpid(), SIGTERM);
      while (!train::stop_signal()) std::this_thread::yield();
    };
    CHECK(part.go() == (stop < 0 ? ExitCode::ok : ExitCode::interrupted));
  }
  RunOf<DenseToy> done{.folder = other.path(), .options = set(options())};
  REQUIRE(done.go() == ExitCode::ok);  // it is finished: nothing is left to do
  CHECK(done.bits() == whole.bits());
  CHECK(done.log() == whole.log());

  RunOf<DenseToy> usual{.options = options()};
  usual.options.steps = 100;
  usual.trainer.emplace(usual.options, usual.task, usual.console);
  CHECK(usual.trainer->options().eval_interval == 10);
}
