// The published recipe as the trainer runs it, and what timm's flags change of it.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "setups/setups.h"
#include "tests/support/published_rates.h"
#include "tests/train/toy.h"

using namespace sg;
using namespace sg::test;

namespace {

// The rows of metrics.jsonl: of epochs, or of steps.
std::vector<nlohmann::json> rows(const std::filesystem::path& folder, bool of_epochs) {
  std::istringstream lines(read_file(folder / "metrics.jsonl"));
  std::vector<nlohmann::json> found;
  for (std::string line; std::getline(lines, line);)
    if (auto row = nlohmann::json::parse(line); report::is_epoch_row(row) == of_epochs)
      found.push_back(row);
  return found;
}

std::string last_checkpoint(const TemporaryFolder& folder) {
  return (folder / "checkpoints/last.safetensors").string();
}

}  // namespace

TEST_CASE("recipe: 310 epochs, each at the published learning rate") {
  const auto steps_from = [](int64_t epoch, int64_t epochs) {
    const TemporaryFolder folder;
    ToyRun run{.folder = folder.path(), .options = setups::default_options("sgformer_s")};
    run.options.data = "toy", run.options.log_interval = 1;
    run.options.start_epoch = epoch, run.options.max_steps = (epoch + epochs) * 2;
    run.task.batches_of_epoch = 2;
    REQUIRE(run.go() == ExitCode::ok);
    CHECK(run.trainer->total_epochs() == 310);
    return rows(folder.path(), false);
  };
  for (const auto& [epoch, lr] : kPublishedRates) {
    CAPTURE(epoch);
    const auto steps = steps_from(epoch, 1);
    REQUIRE(steps.size() == 2);
    for (const auto& row : steps) CHECK(std::abs(row["lr"].get<double>() - lr) < 1e-9);
  }
  // From there the run ends by itself.
  const auto last = steps_from(299, 1000);
  REQUIRE(last.size() == 22);
  CHECK(last.back()["epoch"] == 309);
  for (size_t i = 0; i < last.size(); ++i)
    CHECK(std::abs(last[i]["lr"].get<double>() - (i < 2 ? 1.00271e-5 : 1e-5)) < 1e-9);
}

TEST_CASE("recipe: --sched-on-updates changes the rate in every step, --warmup-prefix the length") {
  for (const bool prefix : {false, true}) {
    const TemporaryFolder folder;
    ToyRun run{.folder = folder.path()};
    run.options.sched_on_updates = true, run.options.warmup_prefix = prefix;
    REQUIRE(run.go() == ExitCode::ok);
    const int64_t epochs = prefix ? 4 : 3;
    const auto steps = rows(folder.path(), false);
    REQUIRE(int64_t(steps.size()) == 6 * epochs);
    const CosineSchedule s{2, 1, 1, 0.05, 0.001, 0.02, 0, prefix};
    for (size_t i = 0; i < steps.size(); ++i) CHECK(steps[i]["lr"] == s.at(double(i) / 6));
    CHECK(steps[1]["lr"] > steps[0]["lr"]);
  }
}

TEST_CASE("recipe: the EMA's warm-up, other betas, eps and clipping go on with the same bits") {
  train::Options options = toy_options();
  options.model_ema_warmup = options.sched_on_updates = true;
  options.opt_betas = {0.8, 0.95}, options.opt_eps = 1e-3;
  options.clip_grad = 0.05, options.clip_mode = "value";
  const TemporaryFolder folder, other, plain;
  ToyRun whole{.folder = folder.path(), .options = options};
  REQUIRE(whole.go() == ExitCode::ok);
  ToyRun usual{.folder = plain.path()};
  REQUIRE(usual.go() == ExitCode::ok);
  CHECK(usual.bits() != whole.bits());
  {
    ToyRun part{.folder = other.path(), .options = options};
    part.options.recovery_interval = 4;
    part.task.hook = [](int64_t step) -> double {
      if (step == 10) throw std::runtime_error("as if killed");
      return 1;
    };
    CHECK_THROWS(part.go());
  }
  ToyRun rest{.folder = other.path(), .options = options};
  REQUIRE(rest.go() == ExitCode::ok);
  CHECK(rest.bits() == whole.bits());
}

TEST_CASE("recipe: the EMA's warm-up begins with the weights of the first step") {
  const TemporaryFolder folder;
  ToyRun run{.folder = folder.path()};
  run.options.model_ema_warmup = true, run.options.max_steps = 1;
  REQUIRE(run.go() == ExitCode::ok);
  const Checkpoint c = load_checkpoint(last_checkpoint(folder));
  const auto weights = part(c.tensors, ""), averaged = part(c.tensors, kEma);
  REQUIRE(averaged.size() == 2);
  for (const auto& [name, tensor] : averaged) {
    const auto weight = std::ranges::find(weights, name, &NamedTensor::first);
    REQUIRE(weight != weights.end());
    CHECK(to_vector<float>(tensor) == to_vector<float>(weight->second));
  }
}

TEST_CASE("recipe: --start-epoch counts from there, --no-resume-opt begins the moments anew") {
  const TemporaryFolder folder;
  ToyRun first{.folder = folder.path()};
  first.options.start_epoch = 1;
  REQUIRE(first.go() == ExitCode::ok);
  CHECK(first.trainer->state().step == 18);
  CHECK(first.trainer->state().epoch == 2);
  const auto steps = rows(folder.path(), false);
  REQUIRE(steps.size() == 12);  // of two epochs
  CHECK(steps[0]["epoch"] == 1);
  CHECK(steps[0]["step"] == 7);

  ToyRun again{.folder = folder.path()};  // from its end back to the second epoch
  again.options.start_epoch = 1, again.options.no_resume_opt = true, again.options.max_steps = 7;
  REQUIRE(again.go() == ExitCode::ok);
  const auto state = load_checkpoint(last_checkpoint(folder)).state;
  CHECK(state["step"] == 7);
  CHECK(state["epoch"] == 1);
  CHECK(state["updates"] == 1);  // Adam's t
}

TEST_CASE("recipe: --eval-metric chooses the best checkpoint") {
  for (const char* metric : {"top1", "loss"}) {
    const TemporaryFolder folder;
    ToyRun run{.folder = folder.path()};
    run.options.eval_metric = metric;
    REQUIRE(run.go() == ExitCode::ok);
    CHECK(run.trainer->schema()[0].name == metric);
    const auto epochs = rows(folder.path(), true);
    double best = NAN;
    for (const auto& row : epochs) {
      const double score = row[std::string("eval_") + metric];
      if (!(run.trainer->schema()[0].more_is_better ? score <= best : score >= best)) best = score;
    }
    CHECK(run.trainer->state().best == best);
    CHECK(load_checkpoint((folder / "checkpoints/best.safetensors").string()).state["best"] ==
          best);
    CHECK(contains(read_file(folder / "summary.csv"), "eval_loss,eval_top1,eval_top5"));
  }
  ToyRun wrong;
  wrong.options.eval_metric = "top3";
  CHECK(contains(error_of(ExitCode::usage, [&] { wrong.go(); }), "--eval-metric: expected top1"));
}
