// What a training step of the real model asks of the CUDA runtime.
#include <doctest/doctest.h>

#include <algorithm>

#include "core/backend.h"
#include "setups/classification.h"
#include "setups/setups.h"
#include "tasks/classification.h"
#include "tests/cudart/library.h"
#include "tests/support/bars_dataset.h"
#include "train/trainer.h"

using namespace sg;
using test::cudart;

namespace {

const Device kCuda{DeviceType::cuda, 0};

// Calls of a few steps in the steady state, and the weights after them.
std::pair<std::vector<std::string>, std::vector<float>> steps(bool eager) {
  train::Options o = setups::default_options("sgformer_nano");
  o.data = "bars", o.num_classes = 4, o.img_size = 28, o.eager = eager;
  o.batch_size = 2, o.workers = 0, o.drop_path = 0.3;
  sgformer::Classifier model(train::model_config(o));
  model.parameters().allocate(Dtype::bf16, kCuda);
  model.parameters().initialize(1);
  const auto bars = std::make_shared<test::Bars>(16);
  tasks::Classification task(model, bars, bars, setups::classification(o));
  report::Console console(true);
  train::Trainer trainer(o, task, console);
  for (int i = 0; i < 3; ++i) trainer.try_step();
  cudart().calls.clear();
  trainer.try_step();
  const auto calls = cudart().calls;
  return {calls, to_vector<float>(model.parameters().values())};
}

}  // namespace

TEST_CASE("training: a step in the steady state is one record, and copies that nobody waits for") {
  const auto [calls, weights] = steps(false);
  const std::vector<std::string> expected{
      "cudaMemcpyAsync",                                   // learning rate and the like
      "cudaEventSynchronize",                              // is the host's batch free again?
      "cudaStreamWaitEvent",                               // its place on the GPU
      "cudaMemcpyAsync beside", "cudaMemcpyAsync beside",  // images and labels
      "cudaEventRecord",        "cudaStreamWaitEvent",     // arrived
      "cudaMemcpyAsync",        "cudaMemcpyAsync",         // to where the record reads them
      "cudaEventRecord",                                   // used
      "cudaEventSynchronize",   "cudaMemcpyAsync",        "cudaEventRecord",  // stochastic depth
      "cudaGraphLaunch",
  };
  std::string all;
  for (const std::string& call : calls) all += call + "\n";
  CAPTURE(all);
  REQUIRE(calls.size() > expected.size());
  CHECK(std::equal(expected.begin(), expected.end(), calls.begin()));
  for (const char* call : {"cudaMalloc", "cudaFree", "cudaHostAlloc", "cudaFreeHost",
                           "cudaEventCreate", "cudaStreamBeginCapture"})
    CHECK(std::count(calls.begin(), calls.end(), call) == 0);
  CHECK(std::count(calls.begin(), calls.end(), "cudaGraphLaunch") == 1);
  // The host waits once, for what it reads: the outcome of the update, with the loss.
  CHECK(std::count(calls.begin(), calls.end(), "cudaStreamSynchronize") == 1);
  CHECK(std::vector(calls.end() - 2, calls.end()) ==
        std::vector<std::string>{"cudaMemcpyAsync", "cudaStreamSynchronize"});
}

TEST_CASE("training: the same bits recorded or not, whichever stream is ahead") {
  const auto expected = steps(true).second;
  for (const auto& [computing, copying] : {std::pair{false, false}, {true, false}, {false, true}}) {
    cudart().computing_waits = computing, cudart().copying_waits = copying;
    CHECK(steps(false).second == expected);
  }
  cudart().computing_waits = cudart().copying_waits = false;
}

TEST_CASE("training: with guards behind blocks, the same bits and nothing asked of the system") {
  const auto expected = steps(false).second;
  setenv("SG_ALLOCATOR_GUARD", "64", 1);
  for (const bool waits : {false, true}) {
    cudart().computing_waits = waits;
    const auto [calls, weights] = steps(false);
    CHECK(weights == expected);
    for (const char* call : {"cudaMalloc", "cudaFree", "cudaHostAlloc", "cudaFreeHost"})
      CHECK(std::count(calls.begin(), calls.end(), call) == 0);
  }
  cudart().computing_waits = false;
  unsetenv("SG_ALLOCATOR_GUARD");
}
