// Processes as ranks, on the stand-ins: each is this program again, so that it has threads of its
// own. NCCL's stand-in reduces through memory that they share.
#include <doctest/doctest.h>

#include <cmath>

#include "core/graph.h"
#include "tests/cudart/library.h"
#include "tests/nccl/groups.h"
#include "tests/nccl/library.h"
#include "tests/support/op_case.h"
#include "tests/support/process.h"
#include "tests/support/slice_sender.h"
#include "tests/train/cuda_toy.h"

using namespace sg;
using namespace sg::test;
using dist::Wire;

namespace {

// Runs a case that is skipped otherwise as `ranks` processes, and returns their exit codes.
std::vector<int> run_ranks(int ranks, const char* test_case, const std::string& folder) {
  static int runs = 0;
  const std::string memory = fmt::format("/sg_ranks_{}_{}", ::getpid(), runs++);
  std::vector<pid_t> children;
  for (int r = 0; r < ranks; ++r) {
    children.push_back(start_child([&] {
      ::setenv("SG_TEST_RANK", fmt::format("{} {} {} {}", r, ranks, memory, folder).c_str(), 1);
      ::execl("/proc/self/exe", "test_nccl", "--no-skip", "--minimal",
              fmt::format("--test-case={}", test_case).c_str(), nullptr);
      return 98;
    }));
  }
  std::vector<int> codes;
  for (const pid_t child : children) codes.push_back(wait_for(child));
  ::shm_unlink(memory.c_str());
  return codes;
}

// Of a process that run_ranks() started.
struct Rank {
  Rank() {
    std::istringstream(std::getenv("SG_TEST_RANK")) >> rank >> ranks >> memory >> folder;
    group.emplace(memory, rank, ranks);
    cudart().gpus[0].uuid = fmt::format("GPU {}", rank);
    communicator = dist::make_communicator(*group, kCuda);
  }
  ~Rank() {
    communicator->close();
    CHECK(fake_nccl().faults.empty());
    CHECK(fake_nccl().communicators == 0);
  }
  int rank = 0, ranks = 0;
  std::string memory, folder;
  std::optional<SharedGroup> group;
  std::unique_ptr<dist::Communicator> communicator;
};

// The toy of a run whose global batch is 8: this rank's part of it. The losses of the ranks add up
// to the mean over the global batch.
struct RankToy : Toy {
  RankToy(int rank, int ranks) : Toy(Dtype::f32, kCuda), rank(rank), ranks(ranks) {
    batch = 8 / ranks;
    inputs = empty({batch, kFeatures}, Dtype::f32, kCuda);
    targets = empty({batch, kClasses}, Dtype::f32, kCuda);
  }
  tasks::Batch load_batch(const tasks::BatchPosition& position) override {
    const auto [x, labels] = samples(batch, uint64_t(epoch) + 1, (next++ * ranks + rank) * batch);
    Tensor t = smooth_one_hot(labels, kClasses, 0.1);
    for (float& v : t.span<float>()) v /= float(ranks);
    inputs.copy_(x), targets.copy_(t);
    return {.position = position, .images = inputs, .valid = {}, .targets = {targets}};
  }
  int rank, ranks;
  Tensor inputs, targets;
};

std::vector<float> trained(bool eager, int rank, int ranks, dist::Communicator* to,
                           Wire wire = Wire::f32) {
  train::Options o = toy_options();
  o.eager = eager, o.clip_grad = 0.5;
  TemporaryFolder folder;
  RankToy task(rank, ranks);
  report::Console console(true);
  train::Trainer trainer(o, task, console);
  std::optional<SliceSender> sender;
  if (to) trainer.attach(sender.emplace(*to, wire), 1);
  train::Outputs outputs{.log = report::RunLog(folder.path(), 0, 0, task.schema()),
                         .checkpoints = train::CheckpointFolder(folder / "checkpoints"),
                         .identity = nlohmann::json::object()};
  REQUIRE(trainer.run(outputs) == ExitCode::ok);
  return to_vector<float>(task.store.values());
}

std::vector<float> read_floats(const std::filesystem::path& path) {
  const std::string bytes = read_file(path);
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

}  // namespace

TEST_CASE("rank: sums and copies" * doctest::skip()) {
  Rank me;
  auto& c = cudart();
  for (const auto& [computing, communicating] :
       {std::pair{false, false}, {true, false}, {false, true}}) {
    c.computing_waits = computing, c.communicating_waits = communicating;
    Tensor mine = full({300000}, 1 + me.rank, Dtype::f32, kCuda), sum = mine.clone();
    Tensor all = zeros({me.ranks, 300000}, Dtype::f32, kCuda), copy = mine.clone();
    Tensor third = full({5}, (1 + me.rank) / 3.0, Dtype::f32, kCuda);
    Graph step(kCuda);
    for (int i = 0; i < 3; ++i)
      step.run({1}, [&] {
        sum.copy_(mine), third.fill_((1 + me.rank) / 3.0);
        me.communicator->start_all_reduce("sum", sum);
        me.communicator->start_all_reduce("rounded", third, Wire::bf16);
        me.communicator->start_all_gather("all", mine, all);
        me.communicator->join();
      });
    me.communicator->broadcast("copy", copy);
    const float expected = 0.5f * float(me.ranks * (me.ranks + 1));
    CHECK(to_vector<float>(sum) == std::vector<float>(300000, expected));
    CHECK(to_vector<float>(copy) == std::vector<float>(300000, 1));
    bf16 rounded(1.0f / 3);
    for (int r = 1; r < me.ranks; ++r)
      rounded = bf16(float(rounded) + float(bf16(float((1 + r) / 3.0))));
    CHECK(to_vector<float>(third) == std::vector<float>(5, float(rounded)));
    const std::vector<float> gathered = to_vector<float>(all);
    for (int r = 0; r < me.ranks; ++r) CHECK(gathered[size_t(r) * 300000 + 299999] == float(1 + r));
  }
  c.computing_waits = c.communicating_waits = false;
}

TEST_CASE("ranks: sums and copies between processes, in captured steps") {
  for (const int ranks : {2, 3}) {
    TemporaryFolder folder;
    CHECK(run_ranks(ranks, "rank: sums and copies", folder.path().string()) ==
          std::vector<int>(size_t(ranks), 0));
  }
}

TEST_CASE("rank: training" * doctest::skip()) {
  Rank me;
  const std::vector<float> captured = trained(false, me.rank, me.ranks, me.communicator.get());
  cudart().communicating_waits = true;
  CHECK(trained(false, me.rank, me.ranks, me.communicator.get()) == captured);
  cudart().communicating_waits = false, cudart().computing_waits = true;
  CHECK(trained(true, me.rank, me.ranks, me.communicator.get()) == captured);
  cudart().computing_waits = false;
  std::string bytes(captured.size() * sizeof(float), '\0');
  std::memcpy(bytes.data(), captured.data(), bytes.size());
  write_file(std::filesystem::path(me.folder) / fmt::format("{}", me.rank), bytes);
}

TEST_CASE("ranks: two processes train as one with the same global batch") {
  TemporaryFolder folder;
  REQUIRE(run_ranks(2, "rank: training", folder.path().string()) == std::vector<int>{0, 0});
  const std::vector<float> first = read_floats(folder / "0");
  CHECK(first == read_floats(folder / "1"));
  const std::vector<float> one = trained(false, 0, 1, nullptr);
  const auto n = int64_t(one.size());
  // Eighteen steps; a sum over the batch is made of two halves.
  CHECK(relative_error(from_vector(first, {n}), from_vector(one, {n})) < 18 * 8 * 0x1p-24);
}
