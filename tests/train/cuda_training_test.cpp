// Training on the device cuda: where there is no card, the emulated one.
#include <doctest/doctest.h>

#include "core/backend.h"
#include "tests/support/faults.h"
#include "tests/support/op_case.h"
#include "tests/train/toy.h"

using namespace sg;
using namespace sg::test;

namespace {

const Device kCuda{DeviceType::cuda, 0};

// The toy on a card: its batch is copied to the same tensors at each step.
struct CudaToy : Toy {
  explicit CudaToy(Dtype dtype = Dtype::f32) : Toy(dtype, kCuda) {}
  Tensor device_inputs = empty({4, kFeatures}, store.dtype(), kCuda);
  Tensor device_targets = empty({4, kClasses}, Dtype::f32, kCuda);
  double stage(int64_t step, int64_t first) override {
    Toy::stage(step, first);
    device_inputs.copy_(inputs), device_targets.copy_(targets);
    return 0;
  }
  Tensor loss() override { return soft_cross_entropy(linear(device_inputs), device_targets).loss; }
};

// Weights, moments and EMA after a run.
std::vector<float> trained(train::Options options, Dtype dtype = Dtype::f32) {
  TemporaryFolder folder;
  CudaToy task(dtype);
  report::Console console(true);
  train::Trainer trainer(options, task, console);
  train::Outputs outputs{.log = report::RunLog(folder.path(), 0, 0),
                         .checkpoints = train::CheckpointFolder(folder / "checkpoints"),
                         .identity = nlohmann::json::object()};
  REQUIRE(trainer.run(outputs) == ExitCode::ok);
  std::vector<float> all;
  for (const auto& [name, t] : trainer.checkpoint(nlohmann::json::object()).tensors)
    all.insert(all.end(), t.span<float>().begin(), t.span<float>().end());
  return all;
}

double difference(const std::vector<float>& a, const std::vector<float>& b) {
  const auto n = int64_t(a.size());
  return relative_error(from_vector(a, {n}), from_vector(b, {n}));
}

}  // namespace

TEST_CASE("training on cuda: a recorded step has the bits of one issued operation by operation") {
  if (!available(kCuda)) return;
  for (const int64_t passes : {1, 3}) {
    train::Options o = toy_options();
    o.grad_accum = passes, o.clip_grad = 0.5;
    const auto recorded = trained(o);
    o.eager = true;
    CHECK(trained(o) == recorded);
    const OtherThreadOrder other;
    CHECK(trained(o) == recorded);
  }
}

TEST_CASE("training on cuda: the CPU's numbers") {
  if (!available(kCuda)) return;
  ToyRun run{TemporaryFolder().path()};
  TemporaryFolder folder;
  run.folder = folder.path();
  REQUIRE(run.go() == ExitCode::ok);
  // Eighteen steps; the toy's gradients do not amplify what rounding adds in each.
  CHECK(difference(trained(run.options), run.bits()) < 18 * 8 * 0x1p-24);
  // Weights and inputs rounded to 2^-9 on the way to each gradient; AdamW's steps have the size of
  // the learning rate whatever the gradient's, so they differ where a gradient is near zero.
  CHECK(difference(trained(run.options, Dtype::bf16), run.bits()) < 18 * 2 * 0x1p-9);
}

TEST_CASE("training on cuda: what is not finite is skipped and counted") {
  if (!available(kCuda)) return;
  CudaToy task;
  task.hook = [](int64_t step) { return step == 2 || step == 3 ? NAN : 1.0; };
  TemporaryFolder folder;
  report::Console console(true);
  train::Trainer trainer(toy_options(), task, console);
  train::Outputs outputs{.log = report::RunLog(folder.path(), 0, 0),
                         .checkpoints = train::CheckpointFolder(folder / "checkpoints"),
                         .identity = nlohmann::json::object()};
  CHECK(trainer.run(outputs) == ExitCode::ok);
  CHECK(trainer.position().skipped == 2);
}

TEST_CASE("training on cuda: a kernel that fails ends the run, and the last checkpoint is intact") {
  if (!available(kCuda) || !fail_cuda_launch) return;
  CudaToy task;
  TemporaryFolder folder;
  report::Console console(true);
  train::Options options = toy_options();
  options.recovery_interval = 1;
  train::Trainer trainer(options, task, console);
  train::Outputs outputs{.log = report::RunLog(folder.path(), 0, 0),
                         .checkpoints = train::CheckpointFolder(folder / "checkpoints"),
                         .identity = nlohmann::json::object()};
  task.hook = [](int64_t step) {
    if (step == 4) fail_cuda_launch(3);
    return 1.0;
  };
  CHECK_THROWS_WITH_AS(trainer.run(outputs), doctest::Contains("launch failed"), Error);
  const auto found = train::find_resumable(folder / "checkpoints");
  REQUIRE(found);
  CHECK(found->checkpoint.state["step"] == 4);
}

TEST_CASE("training on cuda: where memory runs out, a batch that would fit is named") {
  if (!available(kCuda) || !limit_cuda_memory) return;
  CudaToy task;
  task.batch = 1000;
  task.device_inputs = empty({1000, Toy::kFeatures}, Dtype::f32, kCuda);
  task.device_targets = empty({1000, Toy::kClasses}, Dtype::f32, kCuda);
  report::Console console(true);
  train::Trainer trainer(toy_options(), task, console);
  Allocator::of(kCuda).release_cached();
  limit_cuda_memory(Allocator::of(kCuda).stats().in_use + 20000);
  CHECK_THROWS_WITH_AS(trainer.try_step(), doctest::Contains("--batch-size"), Error);
  limit_cuda_memory(SIZE_MAX);
}
