// Training on the device cuda: where there is no GPU, the emulated one.
#include <doctest/doctest.h>

#include <cmath>

#include "tests/support/faults.h"
#include "tests/support/op_case.h"
#include "tests/train/cuda_toy.h"

using namespace sg;
using namespace sg::test;

namespace {

// Weights, moments and EMA after a run.
std::vector<float> trained(train::Options options, Dtype dtype = Dtype::f32) {
  TemporaryFolder folder;
  CudaToy task(dtype);
  report::Console console(true);
  train::Trainer trainer(options, task, console);
  train::Outputs outputs{.log = report::RunLog(folder.path(), 0, 0, task.schema()),
                         .checkpoints = train::CheckpointFolder(folder / "checkpoints"),
                         .identity = nlohmann::json::object()};
  REQUIRE(trainer.run(&outputs) == ExitCode::ok);
  return bits_of(trainer);
}

double difference(const std::vector<float>& a, const std::vector<float>& b) {
  const auto n = int64_t(a.size());
  return relative_error(from_vector(a, {n}), from_vector(b, {n}));
}

}  // namespace

TEST_CASE("training on cuda: a recorded step has the bits of one issued operation by operation") {
  if (!have_cuda()) return;
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
  if (!have_cuda()) return;
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
  if (!have_cuda()) return;
  CudaToy task;
  task.hook = [](int64_t step) { return step == 2 || step == 3 ? NAN : 1.0; };
  TemporaryFolder folder;
  report::Console console(true);
  train::Trainer trainer(toy_options(), task, console);
  train::Outputs outputs{.log = report::RunLog(folder.path(), 0, 0, task.schema()),
                         .checkpoints = train::CheckpointFolder(folder / "checkpoints"),
                         .identity = nlohmann::json::object()};
  CHECK(trainer.run(&outputs) == ExitCode::ok);
  CHECK(trainer.state().skipped == 2);
}
