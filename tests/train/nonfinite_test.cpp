// Runs whose weights explode or are poisoned: what they save, name and report.
#include <doctest/doctest.h>

#include <cmath>
#include <sstream>

#include "tests/train/toy.h"

using namespace sg;
using namespace sg::test;
namespace fs = std::filesystem;

namespace {

// From the second epoch on a learning rate by which weights grow without bound.
train::Options exploding(double ema_decay) {
  train::Options o = toy_options();
  o.lr = 1e20, o.recovery_interval = 1, o.model_ema_decay = ema_decay;
  o.epochs = 20;
  return o;
}

// The value of the flag that the message names.
double flag(const std::string& message, const std::string& name) {
  const size_t at = message.find(" --" + name + " ");
  REQUIRE(at != std::string::npos);
  return std::stod(message.substr(at + name.size() + 4));
}

void fill(Tensor& values, float value) {
  for (float& v : values.span<float>()) v = value;
}

std::vector<nlohmann::json> epochs(const fs::path& folder) {
  std::istringstream lines(read_file(folder / "metrics.jsonl"));
  std::vector<nlohmann::json> rows;
  for (std::string line; std::getline(lines, line);)
    if (auto row = nlohmann::json::parse(line); row.contains("train_loss")) rows.push_back(row);
  return rows;
}

// The training loss of the first step that goes on from a checkpoint.
double first_loss(const fs::path& checkpoint) {
  Toy task;
  report::Console console(true);
  train::Options options = toy_options();
  options.epochs = 20;
  train::Trainer trainer(options, task, console);
  trainer.restore(load_checkpoint(checkpoint));
  const autograd::NoGrad no_grad;
  return task.losses(task.load_batch({})).total.item();
}

}  // namespace

TEST_CASE("nonfinite: an exploded run leaves good checkpoints alone, and goes on as it is told") {
  for (const double ema_decay : {0.0, 0.8, 1e-3}) {
    CAPTURE(ema_decay);
    const TemporaryFolder folder;
    ToyRun run{.folder = folder.path(), .options = exploding(ema_decay)};
    const std::string message = error_of(ExitCode::nonfinite, [&] { run.go(); });
    CHECK(contains(message, "10 steps in a row"));
    CHECK(contains(message, "--resume " + (folder / "checkpoints/good.safetensors").string()));
    int files = 0;
    for (const auto& item : fs::directory_iterator(folder / "checkpoints")) {
      if (item.path().extension() != ".safetensors") continue;
      CAPTURE(item.path());
      CHECK(first_loss(item.path()) < 2);
      ++files;
    }
    CHECK(files >= 3);

    ToyRun rest{.folder = folder.path(), .options = run.options};
    rest.options.lr = flag(message, "lr");
    rest.options.warmup_lr = flag(message, "warmup-lr"),
    rest.options.min_lr = flag(message, "min-lr");
    CHECK(rest.go() == ExitCode::ok);
    CHECK(rest.trainer->state().skipped_in_a_row == 0);
    const auto rows = epochs(folder.path());
    CHECK(rows.size() == 21);
    for (const auto& row : rows) CHECK(row["train_loss"] < 2.0);
  }
}

TEST_CASE("nonfinite: an explosion before anything is good names nothing to go on from") {
  const TemporaryFolder folder;
  ToyRun run{.folder = folder.path(), .options = exploding(0.8)};
  run.options.warmup_lr = 1e20, run.task.batches_of_epoch = 40, run.options.recovery_interval = 2;
  const std::string message = error_of(ExitCode::nonfinite, [&] { run.go(); });
  CHECK(contains(message, "no checkpoint of this run is known to be good: begin again"));
  CHECK(!contains(message, "--resume"));
  CHECK_FALSE(train::find_resumable(folder / "checkpoints"));
}

TEST_CASE("nonfinite: weights that are poisoned by the last step of an epoch") {
  const TemporaryFolder folder;
  ToyRun run{.folder = folder.path()};
  run.options.epochs = 20;
  int evaluations = 0;
  run.task.while_evaluating = [&] {
    if (++evaluations == 3) fill(run.task.store.values(), NAN);  // of the weights, after two epochs
  };
  const std::string message = error_of(ExitCode::nonfinite, [&] { run.go(); });
  CHECK(contains(message, "the weights of step 6 gave finite losses"));
  CHECK(train::find_resumable(folder / "checkpoints")->checkpoint.state["step"] == 6);
  const auto rows = epochs(folder.path());
  REQUIRE(rows.size() >= 2);
  for (const char* key : {"eval_loss", "eval_top1", "eval_model_top1"})
    CHECK(rows[1][key].is_null());
  CHECK(run.trainer->state().best_epoch == 0);
}

TEST_CASE("nonfinite: the last epoch poisoned ends the run with 6") {
  const TemporaryFolder folder;
  ToyRun run{.folder = folder.path()};
  int evaluations = 0;
  run.task.while_evaluating = [&] {
    if (++evaluations == 5) fill(run.task.store.values(), NAN);
  };
  const std::string message = error_of(ExitCode::nonfinite, [&] { run.go(); });
  CHECK(contains(message, "ended with weights whose evaluation is not finite"));
  CHECK(contains(message, "step 12"));
}

TEST_CASE("nonfinite: averaged weights alone that are poisoned begin again with the weights") {
  const TemporaryFolder folder;
  ToyRun run{.folder = folder.path()};
  run.task.hook = [&](int64_t step) {
    if (step == 8) run.trainer->with_ema([&] { fill(run.task.store.values(), NAN); });
    return 1.0;
  };
  CHECK(run.go() == ExitCode::ok);
  const auto rows = epochs(folder.path());
  REQUIRE(rows.size() == 3);
  CHECK(rows[1]["eval_top1"].is_null());
  CHECK(rows[1]["eval_model_top1"].is_number());
  CHECK(rows[2]["eval_top1"].is_number());
  CHECK(fs::exists(folder / "checkpoints/recovery-00000012.safetensors"));
  CHECK_FALSE(fs::exists(folder / "checkpoints/checkpoint-0001.safetensors"));
  for (float v : run.bits()) CHECK(std::isfinite(v));
}

TEST_CASE("nonfinite: an epoch that ends while steps are skipped is not the best") {
  const TemporaryFolder folder;
  ToyRun run{.folder = folder.path()};
  run.task.hook = [](int64_t step) { return step == 5 || step == 17 ? NAN : 1.0; };
  CHECK(run.go() == ExitCode::ok);
  CHECK(run.trainer->state().best_epoch == 1);
  const fs::path checkpoints = folder / "checkpoints";
  CHECK(fs::equivalent(checkpoints / "best.safetensors",
                       checkpoints / "checkpoint-0001.safetensors"));
  CHECK(fs::equivalent(checkpoints / "good.safetensors",
                       checkpoints / "checkpoint-0001.safetensors"));
  CHECK(train::find_resumable(checkpoints)->checkpoint.state["step"] == 18);
}

TEST_CASE("nonfinite: a run of skipped steps alone has no training loss, and learnt nothing") {
  const TemporaryFolder folder;
  ToyRun run{.folder = folder.path()};
  run.options.epochs = 1, run.options.warmup_epochs = 0, run.options.cooldown_epochs = 0;
  run.options.recovery_interval = 1;
  run.task.hook = [](int64_t) { return NAN; };
  run.console.open_log(folder / "train.log");
  const std::string message = error_of(ExitCode::nonfinite, [&] { run.go(); });
  CHECK(contains(message, "none of 6 steps had finite numbers"));
  CHECK(contains(message, "--initial-checkpoint"));
  CHECK(!contains(message, "--lr"));
  CHECK(epochs(folder.path())[0]["train_loss"].is_null());
  CHECK(contains(read_file(folder / "summary.csv"), "\n0,,"));
  CHECK(contains(read_file(folder / "train.log"), "train loss none (no finite step)"));
  CHECK_FALSE(train::find_resumable(folder / "checkpoints"));
}

TEST_CASE("nonfinite: a poisoned checkpoint, as older versions left them, is not gone on from") {
  const TemporaryFolder folder;
  ToyRun run{.folder = folder.path()};
  CHECK(run.go() == ExitCode::ok);
  const Checkpoint good = run.trainer->checkpoint(nlohmann::json::object());
  for (const std::string prefix : {"", "adam.m.", "ema."}) {
    Checkpoint poisoned = good;
    for (auto& [name, tensor] : poisoned.tensors)
      if (name == prefix + "fc.bias") tensor = full({Toy::kClasses}, NAN);
    ToyRun next{.folder = folder.path()};
    next.trainer.emplace(next.options, next.task, next.console);
    if (prefix == "ema.") {
      next.trainer->restore(poisoned);
      for (float v : next.bits()) CHECK(std::isfinite(v));
    } else {
      const std::string message =
          error_of(ExitCode::checkpoint, [&] { next.trainer->restore(poisoned); });
      CHECK(contains(message, "not good: tensor '" + prefix + "fc.bias'"));
    }
  }

  // Finite, but so large that no loss is: known after its first steps.
  const TemporaryFolder other;
  Checkpoint absurd = good;
  for (auto& [name, tensor] : absurd.tensors)
    if (name == "fc.weight") tensor = full(tensor.shape(), 3e38);
  absurd.state["epoch"] = 0, absurd.state["epoch_steps"] = 0, absurd.state["evaluated"] = false;
  train::CheckpointFolder(other / "checkpoints").save(absurd, 100);
  ToyRun next{.folder = other.path()};
  next.options.epochs = 20;
  CHECK(contains(error_of(ExitCode::nonfinite, [&] { next.go(); }),
                 "the checkpoint of step 18, from which it went on, is not good"));
}

TEST_CASE("trainer: a loss no better than that of chance is warned of") {
  for (const bool learns : {false, true}) {
    const TemporaryFolder folder;
    ToyRun run{.folder = folder.path()};
    run.options.warmup_epochs = 0;
    if (!learns) run.options.lr = run.options.min_lr = run.options.warmup_lr = 1e-12;
    run.task.hook = [&](int64_t) { return learns ? 1.0 : 1.5; };
    run.console.open_log(folder / "train.log");
    CHECK(run.go() == ExitCode::ok);
    const std::string log = read_file(folder / "train.log");
    CHECK(contains(log, "not better than that of chance, 1.099") == !learns);
    CHECK(contains(log, "1.0e-12 may not fit steps of 4 images; --lr-base") == !learns);
  }
}

TEST_CASE("nonfinite: a folder of an older version, which names no good checkpoint") {
  const TemporaryFolder folder;
  const fs::path checkpoints = folder / "checkpoints";
  ToyRun run{.folder = folder.path()};
  CHECK(run.go() == ExitCode::ok);
  fs::remove(checkpoints / "good.safetensors");
  // The newest: finite, but so large that no loss is.
  Checkpoint absurd = load_checkpoint(checkpoints / "checkpoint-0002.safetensors");
  for (auto& [name, tensor] : absurd.tensors)
    if (name == "fc.weight") tensor = full(tensor.shape(), 3e38);
  absurd.state["step"] = 19;
  train::CheckpointFolder(checkpoints).save_recovery(absurd);

  ToyRun next{.folder = folder.path()};
  next.options.epochs = 20;
  const std::string message = error_of(ExitCode::nonfinite, [&] { next.go(); });
  CHECK(contains(message, "the checkpoint of step 19, from which it went on, is not good"));
  CHECK(contains(message, "the weights of step 18 gave finite losses"));
  CHECK(contains(message, "--resume " + (checkpoints / "good.safetensors").string()));
  CHECK(train::find_resumable(checkpoints)->checkpoint.state["step"] == 18);
  CHECK(fs::exists(checkpoints / "recovery-00000019.safetensors.old1"));
}
