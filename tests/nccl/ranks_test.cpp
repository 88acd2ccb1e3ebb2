// Processes as ranks of a group, on the stand-ins: each is this program again, so that it has
// threads of its own. NCCL's stand-in reduces through memory that they share.
#include <doctest/doctest.h>
#include <signal.h>

#include <chrono>
#include <cstring>
#include <thread>

#include "core/backend.h"
#include "core/graph.h"
#include "dist/group.h"
#include "setups/classification.h"
#include "setups/setups.h"
#include "tests/cudart/library.h"
#include "tests/nccl/library.h"
#include "tests/support/bars_dataset.h"
#include "tests/support/op_case.h"
#include "tests/support/process.h"
#include "tests/train/cuda_toy.h"

using namespace sg;
using namespace sg::test;
using dist::Wire;

namespace {

// Runs a case that is skipped otherwise as `ranks` processes, and returns their exit codes.
std::vector<int> run_ranks(int ranks, const char* test_case, const TemporaryFolder& folder) {
  std::vector<pid_t> children;
  for (int r = 0; r < ranks; ++r) {
    children.push_back(start_child([&] {
      ::setenv("SG_TEST_RANK", fmt::format("{} {} {}", r, ranks, folder.path().string()).c_str(),
               1);
      ::execl("/proc/self/exe", "test_nccl", "--no-skip", "--minimal",
              fmt::format("--test-case={}", test_case).c_str(), nullptr);
      return 98;
    }));
  }
  std::vector<int> codes;
  for (const pid_t child : children) codes.push_back(wait_for(child));
  return codes;
}

// Of a process that run_ranks() started.
struct Rank {
  explicit Rank(double timeout = 60) {
    dist::Launch launch{.launcher = "sgtrain", .job = "test"};
    std::istringstream(std::getenv("SG_TEST_RANK")) >> launch.rank >> launch.ranks >> folder;
    launch.local_rank = rank = launch.rank, launch.local_ranks = ranks = launch.ranks;
    cudart().gpus[0].uuid = fmt::format("GPU {}", rank);
    fake_nccl().graphs_exist = [] { return cudart().records > 0; };
    group =
        dist::join(launch, {.timeout = std::chrono::duration<double>(timeout), .folder = folder});
  }
  // All ranks end in order.
  void end() {
    group.reset();
    CHECK(fake_nccl().communicators == 0);
    CHECK(fake_nccl().faults.empty());
  }
  int rank = 0, ranks = 0;
  std::string folder;
  std::unique_ptr<dist::Group> group;
};

// The toy of a run whose global batch is 8: this rank's part of it.
struct RankToy : Toy {
  explicit RankToy(int ranks) : Toy(Dtype::f32, kCuda) {
    batch = 8 / ranks;
    inputs = empty({batch, kFeatures}, Dtype::f32, kCuda);
    targets = empty({batch, kClasses}, Dtype::f32, kCuda);
  }
  tasks::Batch load_batch(const tasks::BatchPosition& position) override {
    const auto [x, labels] = samples(batch, 1, 8 * position.step + position.first_sample);
    inputs.copy_(x), targets.copy_(smooth_one_hot(labels, kClasses, 0.1));
    return {.position = position, .images = inputs, .valid = {}, .targets = {targets}};
  }
  Tensor inputs, targets;
};

std::vector<float> trained(train::Options o, dist::Group& group) {
  o.clip_grad = 0.5, o.ranks = group.ranks();
  TemporaryFolder folder;
  RankToy task(group.ranks());
  report::Console console(true);
  train::Trainer trainer(o, task, console, group);
  trainer.share();
  std::optional<train::Outputs> outputs;
  if (group.leads())
    outputs = train::Outputs{.log = report::RunLog(folder.path(), 0, 0, task.schema()),
                             .checkpoints = train::CheckpointFolder(folder / "checkpoints"),
                             .identity = nlohmann::json::object()};
  REQUIRE(trainer.run(outputs ? &*outputs : nullptr) == ExitCode::ok);
  return to_vector<float>(task.store.values());
}

// Weights of the real model after three steps: issued, captured, replayed. Several slices leave
// while backward runs.
std::vector<float> nano(bool eager, dist::Group& group) {
  train::Options o = setups::default_options("sgformer_nano");
  o.data = "bars", o.num_classes = 4, o.img_size = 28, o.eager = eager;
  o.batch_size = 2, o.workers = 0, o.drop_path = 0.3, o.ranks = group.ranks();
  o.bucket_cap_mb = 0.05, o.reduce_dtype = "bf16";
  sgformer::Config config = train::model_config(o);
  // The host computes as a GPU would, slowly: fewer tokens and channels.
  config.stem_strides = {2, 1, 2}, config.pos_embed_side = 7;
  for (sgformer::StageConfig& stage : config.stages)
    stage.dim = std::min<int64_t>(stage.dim, 48), stage.heads = 2;
  sgformer::Classifier model(config);
  model.parameters().allocate(Dtype::bf16, kCuda);
  model.parameters().initialize(1);
  const auto bars = std::make_shared<Bars>(16);
  tasks::ClassificationSettings settings = setups::classification(o);
  settings.group = &group;
  tasks::Classification task(model, bars, bars, settings);
  report::Console console(true);
  train::Trainer trainer(o, task, console, group);
  trainer.share();
  CHECK(trainer.slice_ends().size() > 3);
  for (int i = 0; i < 3; ++i) trainer.try_step();
  return to_vector<float>(model.parameters().values());
}

// A step of two slices that is captured.
struct Reductions {
  explicit Reductions(dist::Communicator& to) : to(to) {}
  void run() {
    graph.run({1}, [&] {
      to.start_all_reduce("slice 1 of 2", a);
      to.start_all_reduce("slice 2 of 2", b);
      to.join();
    });
  }
  // The error that the group ends it with.
  std::string run_until_lost() {
    try {
      run();
      backend(DeviceType::cuda).synchronize(current_stream(kCuda));
      to.check_peers();
    } catch (const Error& e) {
      CHECK(e.code() == ExitCode::peer);
      return e.what();
    }
    return "no rank was lost";
  }
  dist::Communicator& to;
  Tensor a = full({5}, 1, Dtype::f32, kCuda), b = full({9}, 1, Dtype::f32, kCuda);
  Graph graph{kCuda};
};

}  // namespace

TEST_CASE("rank: sums and copies" * doctest::skip()) {
  Rank me;
  dist::Communicator& communicator = me.group->communicator(kCuda);
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
        communicator.start_all_reduce("sum", sum);
        communicator.start_all_reduce("rounded", third, Wire::bf16);
        communicator.start_all_gather("all", mine, all);
        communicator.join();
      });
    communicator.broadcast("copy", copy);
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
  me.end();
}

TEST_CASE("ranks: sums and copies between processes, in captured steps") {
  for (const int ranks : {2, 3}) {
    const TemporaryFolder folder;
    CHECK(run_ranks(ranks, "rank: sums and copies", folder) == std::vector<int>(size_t(ranks), 0));
  }
}

TEST_CASE("rank: training" * doctest::skip()) {
  Rank me;
  train::Options o = toy_options();
  for (const char* order : {"ring", "fixed"}) {
    o.reduce_order = order, o.eager = false;
    const std::vector<float> captured = trained(o, *me.group);
    cudart().communicating_waits = true;
    CHECK(trained(o, *me.group) == captured);
    cudart().communicating_waits = false, cudart().computing_waits = true;
    o.eager = true;
    CHECK(trained(o, *me.group) == captured);
    cudart().computing_waits = false;
    std::string bytes(captured.size() * sizeof(float), '\0');
    std::memcpy(bytes.data(), captured.data(), bytes.size());
    put(std::filesystem::path(me.folder) / fmt::format("{} {}", order, me.rank), bytes);
  }
  me.end();
}

TEST_CASE("ranks: two processes train as one with the same global batch") {
  const TemporaryFolder folder;
  REQUIRE(run_ranks(2, "rank: training", folder) == std::vector<int>{0, 0});
  const std::vector<float> one = trained(toy_options(), dist::alone());
  const auto n = int64_t(one.size());
  for (const std::string order : {"ring", "fixed"}) {
    const std::string bytes = read_file(folder / (order + " 0"));
    CHECK(bytes == read_file(folder / (order + " 1")));
    std::vector<float> two(one.size());
    REQUIRE(bytes.size() == two.size() * sizeof(float));
    std::memcpy(two.data(), bytes.data(), bytes.size());
    // Eighteen steps; a sum over the batch is made of two halves.
    CHECK(relative_error(from_vector(two, {n}), from_vector(one, {n})) < 18 * 8 * 0x1p-24);
  }
}

TEST_CASE("rank: training the real model" * doctest::skip()) {
  Rank me;
  auto& c = cudart();
  const std::vector<float> expected = nano(true, *me.group);
  const std::string mine(reinterpret_cast<const char*>(expected.data()),
                         expected.size() * sizeof(float));
  const std::vector<std::string> all =
      me.group->all_gather("weights", std::to_string(std::hash<std::string>()(mine)));
  CHECK(all[0] == all[1]);
  for (const bool communicating : {false, true}) {
    c.computing_waits = !communicating, c.communicating_waits = communicating;
    CHECK(nano(false, *me.group) == expected);
  }
  c.computing_waits = c.communicating_waits = false;
  me.end();
}

TEST_CASE("ranks: slices that leave during the backward of the real model are complete") {
  const TemporaryFolder folder;
  CHECK(run_ranks(2, "rank: training the real model", folder) == std::vector<int>{0, 0});
}

TEST_CASE("rank: the other is killed" * doctest::skip()) {
  Rank me;
  Reductions step(me.group->communicator(kCuda));
  for (int i = 0; i < 3; ++i) step.run();
  backend(DeviceType::cuda).synchronize(current_stream(kCuda));
  if (me.rank == 1) ::raise(SIGKILL);
  cudart().computing_waits = true;  // the host waits for the device, as in a driver
  for (int i = 0; i < 2; ++i) {
    const std::string verdict = step.run_until_lost();
    CAPTURE(verdict);
    CHECK(contains(verdict, "it was killed"));
  }
  CHECK(fake_nccl().faults.empty());
}

TEST_CASE("ranks: a captured reduction ends when a rank is killed") {
  const TemporaryFolder folder;
  CHECK(run_ranks(2, "rank: the other is killed", folder) == std::vector<int>{0, 128 + SIGKILL});
}

TEST_CASE("rank: the other is late" * doctest::skip()) {
  Rank me(2);
  Reductions step(me.group->communicator(kCuda));
  for (int i = 0; i < 3; ++i) step.run();
  backend(DeviceType::cuda).synchronize(current_stream(kCuda));
  me.group->progress("step 3");
  cudart().computing_waits = true;
  if (me.rank == 1) std::this_thread::sleep_for(std::chrono::seconds(5));
  const std::string verdict = step.run_until_lost();
  CAPTURE(verdict);
  CHECK(contains(verdict, "rank 1 ("));
  CHECK(contains(verdict, "has not reached slice 1 of 2: it is in step 3; rank 0 waits"));
  CHECK(fake_nccl().faults.empty());
}

TEST_CASE("ranks: the one that has not reached a captured reduction is named, with its step") {
  const TemporaryFolder folder;
  CHECK(run_ranks(2, "rank: the other is late", folder) == std::vector<int>{0, 0});
}
