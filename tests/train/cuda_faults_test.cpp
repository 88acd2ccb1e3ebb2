// What ends a training run on the device cuda; only a stand-in for a GPU fails when it is told to.
#include <doctest/doctest.h>

#include "tests/support/faults.h"
#include "tests/train/cuda_toy.h"

using namespace sg;
using namespace sg::test;

TEST_CASE("training on cuda: a kernel that fails ends the run, and the last checkpoint is intact") {
  if (!have_emulation()) return;
  CudaToy task;
  TemporaryFolder folder;
  report::Console console(true);
  train::Options options = toy_options();
  options.recovery_interval = 1;
  train::Trainer trainer(options, task, console);
  train::Outputs outputs{.log = report::RunLog(folder.path(), 0, 0, task.schema()),
                         .checkpoints = train::CheckpointFolder(folder / "checkpoints"),
                         .identity = nlohmann::json::object()};
  task.hook = [](int64_t step) {
    if (step == 4) fail_cuda_launch(3);
    return 1.0;
  };
  CHECK_THROWS_WITH_AS(trainer.run(&outputs), doctest::Contains("launch failed"), Error);
  const auto found = train::find_resumable(folder / "checkpoints");
  REQUIRE(found);
  CHECK(found->checkpoint.state["step"] == 4);
}

TEST_CASE("training on cuda: where memory runs out, the bytes are named, and no batch untried") {
  if (!have_emulation()) return;
  CudaToy task;
  task.batch = 1000;
  task.device_inputs = empty({1000, Toy::kFeatures}, Dtype::f32, kCuda);
  task.device_targets = empty({1000, Toy::kClasses}, Dtype::f32, kCuda);
  report::Console console(true);
  train::Trainer trainer(toy_options(), task, console);
  Allocator::of(kCuda).release_cached();
  limit_cuda_memory(Allocator::of(kCuda).stats().in_use + 20000);
  CHECK_THROWS_WITH_AS(trainer.try_step(), doctest::Contains("bytes asked"), OutOfMemory);
  limit_cuda_memory(SIZE_MAX);
}
