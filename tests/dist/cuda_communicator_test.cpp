// One rank on the device cuda: NCCL itself where there is a GPU, a stand-in for it in test_nccl.
#include <doctest/doctest.h>

#include "core/graph.h"
#include "dist/alone.h"
#include "dist/communicator.h"
#include "nn/gradient_slices.h"
#include "tests/support/skip.h"
#include "tests/train/cuda_toy.h"

using namespace sg;
using namespace sg::test;
using dist::Wire;

namespace {

// Slices of a gradient go to a communicator, as in a run of several processes.
struct SliceSender : nn::Reducer {
  SliceSender(dist::Communicator& to, Wire wire) : to(to), wire(wire) {}
  void reduce(size_t index, Tensor& slice) override {
    to.start_all_reduce(fmt::format("slice {}", index + 1), slice, wire);
  }
  void join() override { to.join(); }

  dist::Communicator& to;
  Wire wire;
};

// Null, and the case is skipped, where there is no NCCL.
std::unique_ptr<dist::Communicator> open() {
  if (!have_cuda()) return nullptr;
  if (!dist::has_communicator(DeviceType::cuda)) {
    skip("this program has no NCCL");
    return nullptr;
  }
  try {
    return dist::make_communicator(dist::alone(), kCuda);
  } catch (const Error& e) {
    if (e.code() != ExitCode::usage) throw;
    skip(e.what());
    return nullptr;
  }
}

std::vector<float> ramp(int64_t n) {
  std::vector<float> values(static_cast<size_t>(n));
  for (size_t i = 0; i < values.size(); ++i) values[i] = float(i) / 3;
  return values;
}

// Weights, moments and EMA after a run whose gradients go to `to`, if it is given.
std::vector<float> trained(bool eager, dist::Communicator* to = nullptr, Wire wire = Wire::f32) {
  train::Options o = toy_options();
  o.eager = eager;
  TemporaryFolder folder;
  CudaToy task;
  report::Console console(true);
  train::Trainer trainer(o, task, console);
  std::optional<SliceSender> sender;
  if (to) trainer.attach(sender.emplace(*to, wire), 1);
  train::Outputs outputs{.log = report::RunLog(folder.path(), 0, 0, task.schema()),
                         .checkpoints = train::CheckpointFolder(folder / "checkpoints"),
                         .identity = nlohmann::json::object()};
  REQUIRE(trainer.run(&outputs) == ExitCode::ok);
  return bits_of(trainer);
}

}  // namespace

TEST_CASE("cuda communicator: of one rank, sums and copies of every dtype are the values") {
  const auto communicator = open();
  if (!communicator) return;
  CHECK(communicator->ranks() == 1);
  const std::vector<float> values{0, 1, 2, 3, 100};
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::f64, Dtype::i32, Dtype::u8}) {
    CAPTURE(name_of(dtype));
    Tensor t = from_vector(values, {5}).to(dtype).to(kCuda), all = zeros({1, 5}, dtype, kCuda);
    communicator->all_reduce("sum", t);
    communicator->broadcast("copy", t);
    communicator->all_gather("all", t, all);
    CHECK(to_vector<float>(t) == values);
    CHECK(to_vector<float>(all) == values);
  }
  Tensor t = from_vector(ramp(1000), {1000}).to(kCuda);
  const Tensor rounded = t.to(Dtype::bf16);
  communicator->start_all_reduce("rounded", t, Wire::bf16);
  communicator->join();
  CHECK(to_vector<float>(t) == to_vector<float>(rounded));
  communicator->check_peers();
  communicator->close();
}

TEST_CASE(
    "cuda communicator: reductions are part of a captured step, which must be dropped first") {
  const auto communicator = open();
  if (!communicator) return;
  Tensor a = zeros({1 << 16}, Dtype::f32, kCuda), b = zeros({3}, Dtype::f32, kCuda);
  communicator->broadcast("state", a);
  communicator->times();
  Graph step(kCuda);
  int calls = 0;
  for (int i = 1; i < 6; ++i) {
    a.fill_(i), b.fill_(2 * i);
    step.run({1}, [&] {
      ++calls;
      communicator->start_all_reduce("slice 1 of 2", a);
      communicator->start_all_reduce("slice 2 of 2", b, Wire::bf16);
      communicator->join();
      b.copy_(a.slice(0, 3));
    });
    CHECK(to_vector<float>(b) == std::vector<float>(3, float(i)));
    communicator->check_peers();
    const auto reached = communicator->reached();
    CHECK(reached->what == "slice 2 of 2");
    CHECK_FALSE(reached->inside);
    const auto times = communicator->times();  // of the step, though nothing ran here
    CHECK(times.busy > 0);
    CHECK(times.exposed >= 0);
    CHECK(times.exposed < 10);
  }
  CHECK(calls == 2);
  CHECK_THROWS_WITH_AS(communicator->close(), doctest::Contains("Graph::forget"), Error);
  step.forget();
  communicator->close();
}

TEST_CASE("cuda communicator: training with gradients that pass NCCL, captured and not") {
  const auto communicator = open();
  if (!communicator) return;
  const std::vector<float> expected = trained(false);
  for (const bool eager : {false, true}) CHECK(trained(eager, communicator.get()) == expected);
  const std::vector<float> rounded = trained(false, communicator.get(), Wire::bf16);
  CHECK(rounded == trained(true, communicator.get(), Wire::bf16));
  CHECK(rounded != expected);
  communicator->close();
}
