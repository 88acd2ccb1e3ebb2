// dist/cuda on stand-ins for NCCL and for the CUDA runtime: one rank, and what goes wrong.
#include <doctest/doctest.h>

#include <cmath>
#include <thread>

#include "core/backend.h"
#include "core/error.h"
#include "core/graph.h"
#include "tests/cudart/library.h"
#include "tests/nccl/library.h"
#include "tests/nccl/told_group.h"
#include "tests/support/skip.h"

using namespace sg;
using namespace sg::test;
using namespace std::chrono_literals;
using dist::Wire;
using Calls = std::vector<std::string>;

namespace {

// The stand-ins as new; at the end none of them has found a fault.
struct Fresh {
  Fresh() { reset(); }
  ~Fresh() {
    CHECK(fake_nccl().faults == Calls{});
    reset();
  }
  static void reset() {
    fake_nccl() = {};
    fake_nccl().graphs_exist = [] { return cudart().records > 0; };
    auto& c = cudart();
    c.computing_waits = c.copying_waits = c.communicating_waits = c.stuck = false;
  }
};

std::unique_ptr<dist::Communicator> make(dist::Group& group) {
  return dist::make_communicator(group, kCuda);
}

// What f throws.
template <class F>
Error error_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e;
  }
  return {ExitCode::ok, "nothing was thrown"};
}

bool contains(const Error& e, const std::string& text) {
  INFO(e.what());
  return std::string(e.what()).find(text) != std::string::npos;
}

Tensor thirds(int64_t n) {
  std::vector<float> values(static_cast<size_t>(n));
  for (size_t i = 0; i < values.size(); ++i) values[i] = float(i) / 3;
  return from_vector(values, {n}).to(kCuda);
}

}  // namespace

TEST_CASE("NCCL: connected without blocking at the first call, and ended in order") {
  const Fresh fresh;
  fake_nccl().polls = 5;
  ToldGroup group;
  const auto communicator = make(group);
  CHECK(fake_nccl().calls == Calls{"ncclGetVersion", "ncclGetUniqueId", "ncclCommInitRankConfig"});
  CHECK(fake_nccl().config.blocking == 0);
  CHECK(fake_nccl().name == "sgformer");
  Tensor t = thirds(5);
  fake_nccl().calls.clear();
  communicator->all_reduce("sum", t);
  CHECK(fake_nccl().calls == Calls{"ncclAllReduce", "ncclAllReduce"});  // the first is a trial
  fake_nccl().calls.clear();
  communicator->close();
  CHECK(fake_nccl().calls == Calls{"ncclCommFinalize", "ncclCommDestroy"});
  CHECK(fake_nccl().communicators == 0);
  CHECK(communicator->reached()->operations == 2);  // others may still compare
}

TEST_CASE("NCCL: what is not closed is left alone") {
  const Fresh fresh;
  ToldGroup group;
  {
    const auto communicator = make(group);
    Tensor t = thirds(5);
    communicator->broadcast("state", t);
    fake_nccl().calls.clear(), cudart().calls.clear();
  }
  CHECK(fake_nccl().calls == Calls{});
  CHECK(cudart().count("cudaFree") + cudart().count("cudaFreeHost") == 0);
}

TEST_CASE("NCCL: a call that fails is named, with the library's own words") {
  for (const char* call :
       {"ncclGetVersion", "ncclGetUniqueId", "ncclCommInitRankConfig", "ncclAllReduce",
        "ncclAllGather", "ncclBroadcast", "ncclCommFinalize", "ncclCommDestroy"}) {
    CAPTURE(call);
    const Fresh fresh;
    fake_nccl().failing[call] = ncclInternalError, fake_nccl().last_error = "no such network";
    ToldGroup group;
    std::unique_ptr<dist::Communicator> communicator;
    const Error e = error_of([&] {
      communicator = make(group);
      Tensor t = thirds(5), all = zeros({1, 5}, Dtype::f32, kCuda);
      communicator->broadcast("state", t);
      communicator->all_reduce("sum", t);
      communicator->all_gather("all", t, all);
      communicator->close();
    });
    CHECK(e.code() == ExitCode::failure);
    CHECK(contains(e, fmt::format("NCCL: {} failed: another failure (no such network); run again "
                                  "with NCCL_DEBUG=INFO to see why",
                                  call)));
  }
}

TEST_CASE("NCCL: calls and the first reduction have a time limit") {
  ToldGroup group;
  group.limit = 100ms;
  Tensor t = thirds(5);
  {
    const Fresh fresh;
    fake_nccl().never_ready = true;
    const auto communicator = make(group);
    const Error e = error_of([&] { communicator->broadcast("state", t); });
    CHECK(e.code() == ExitCode::failure);
    CHECK(contains(e, "NCCL: ncclCommInitRankConfig has not ended after"));
  }
  const Fresh fresh;
  const auto communicator = make(group);
  cudart().computing_waits = cudart().communicating_waits = cudart().stuck = true;
  const Error e = error_of([&] { communicator->broadcast("state", t); });
  CHECK(contains(e, "NCCL: the first reduction has not ended after"));
  cudart().stuck = false;
  backend(DeviceType::cuda).synchronize(current_stream(kCuda));
}

TEST_CASE("NCCL: two ranks on one GPU, and other versions, are errors that name the ranks") {
  const Fresh fresh;
  cudart().gpus[0].uuid = "0123456789abcdef";
  ToldGroup group(3);
  group.others["UUIDs of GPUs"] = {"GPU-other", "GPU-30313233-3435-3637-3839-616263646566"};
  group.others["versions of NCCL"] = {"2.28.9", "2.28.9"};
  Error e = error_of([&] { make(group); });
  CHECK(e.code() == ExitCode::usage);
  CHECK(contains(e,
                 "rank 0 and rank 2 compute on the same GPU, "
                 "GPU-30313233-3435-3637-3839-616263646566: each process needs its own"));
  group.others["UUIDs of GPUs"][1] = "GPU-third";
  group.others["versions of NCCL"] = {"2.27.3", "2.27.3"};
  fake_nccl().version = 22809;
  e = error_of([&] { make(group); });
  CHECK(e.code() == ExitCode::usage);
  CHECK(contains(e, "rank 0 has version 2.28.9, rank 1 has 2.27.3"));
  CHECK(fake_nccl().communicators == 0);
  cudart().gpus[0].uuid = "";
}

TEST_CASE("NCCL: tensors that do not fit are errors before anything is sent") {
  const Fresh fresh;
  ToldGroup group;
  const auto communicator = make(group);
  Tensor t = thirds(5), host = t.to(Device{}), small = zeros({4}, Dtype::f32, kCuda);
  communicator->broadcast("state", t);
  fake_nccl().calls.clear();
  CHECK_THROWS_WITH_AS(communicator->all_reduce("slice 1", host),
                       doctest::Contains("slice 1: expected a tensor on cuda:0"), Error);
  CHECK_THROWS_AS(communicator->all_gather("all", t, small), Error);
  CHECK_THROWS_AS(communicator->start_all_reduce("slice 1", t.to(Dtype::bf16), Wire::bf16), Error);
  CHECK(fake_nccl().calls == Calls{});
}

// The sum of one rank, sent as bf16, is the rounded value: what is read too early, or sent too
// early, is seen.
TEST_CASE("NCCL: ordered after what was issued and before what follows, whichever stream is late") {
  const Fresh fresh;
  ToldGroup group;
  const auto communicator = make(group);
  auto& c = cudart();
  for (const bool whole : {false, true})
    for (const auto& [computing, communicating] :
         {std::pair{false, false}, {true, false}, {false, true}, {true, true}}) {
      CAPTURE(whole);
      c.computing_waits = computing, c.communicating_waits = communicating;
      Tensor a = zeros({7}, Dtype::f32, kCuda), b = zeros({9}, Dtype::f32, kCuda);
      Tensor input = zeros({9}, Dtype::f32, kCuda), sums = zeros({9}, Dtype::f32, kCuda);
      Graph step(kCuda, whole);
      for (int i = 1; i < 5; ++i) {
        input.copy_(full({9}, i / 3.0));
        step.run({1}, [&] {
          a.copy_(input.slice(0, 7));
          communicator->start_all_reduce("slice 1", a, Wire::bf16);
          b.copy_(input);
          communicator->start_all_reduce("slice 2", b, Wire::bf16);
          communicator->join();
          sums.copy_(b), sums.slice(0, 7).copy_(a);
        });
        CHECK(to_vector<float>(sums) == std::vector<float>(9, float(bf16(float(i / 3.0)))));
      }
    }
  communicator->close();
}

TEST_CASE("NCCL: in the steady state nothing is asked of the system") {
  const Fresh fresh;
  ToldGroup group;
  const auto communicator = make(group);
  Tensor a = thirds(100), b = thirds(1000), all = zeros({1, 100}, Dtype::f32, kCuda);
  const auto step = [&] {
    communicator->start_all_reduce("slice 1", a, Wire::bf16);
    communicator->start_all_reduce("slice 2", b, Wire::bf16);
    communicator->start_all_gather("all", a, all);
    communicator->join();
  };
  step();
  cudart().calls.clear();
  for (int i = 0; i < 3; ++i) step();
  for (const char* call : {"cudaMalloc", "cudaFree", "cudaHostAlloc", "cudaFreeHost",
                           "cudaEventCreate", "cudaStreamSynchronize", "cudaEventSynchronize"}) {
    CAPTURE(call);
    CHECK(cudart().count(call) == 0);
  }
  communicator->close();
}

TEST_CASE("NCCL: a rank that is lost ends the wait for it, with the group's reason") {
  const std::string reason = "rank 1 (host b, process 4711) is lost: killed by SIGKILL";
  ToldGroup group;
  Tensor t = thirds(5);
  {  // while the ranks connect
    const Fresh fresh;
    fake_nccl().never_ready = true;
    const auto communicator = make(group);
    std::thread watch([&] {
      std::this_thread::sleep_for(20ms);
      communicator->abort(reason);
    });
    const Error e = error_of([&] { communicator->broadcast("state", t); });
    watch.join();
    CHECK(e.code() == ExitCode::peer);
    CHECK(e.what() == reason);
  }
  {  // found by NCCL first: the reason follows
    const Fresh fresh;
    const auto communicator = make(group);
    communicator->broadcast("state", t);
    fake_nccl().asynchronous = ncclRemoteError;
    std::thread watch([&] {
      std::this_thread::sleep_for(50ms);
      communicator->abort(reason);
    });
    const Error e = error_of([&] { communicator->check_peers(); });
    watch.join();
    CHECK(e.code() == ExitCode::peer);
    CHECK(e.what() == reason);
  }
  // found by NCCL alone
  const Fresh fresh;
  const auto communicator = make(group);
  communicator->broadcast("state", t);
  fake_nccl().asynchronous = ncclRemoteError;
  const Error e = error_of([&] { communicator->check_peers(); });
  CHECK(e.code() == ExitCode::peer);
  CHECK(contains(e, "remote process exited"));
}

TEST_CASE("NCCL: a captured reduction that hangs is named, and ended by the group") {
  const Fresh fresh;
  ToldGroup group;
  auto communicator = make(group);
  Tensor a = thirds(5), b = thirds(9);
  Graph step(kCuda);
  const auto run = [&] {
    step.run({1}, [&] {
      communicator->start_all_reduce("slice 1 of 2", a);
      communicator->start_all_reduce("slice 2 of 2", b);
      communicator->join();
    });
  };
  run(), run(), run();
  communicator->check_peers();
  cudart().computing_waits = true;  // what is launched runs when it is waited for
  fake_nccl().hangs = true;
  run();
  const auto before = communicator->reached();
  CHECK(before->what == "slice 2 of 2");
  CHECK_FALSE(before->inside);
  dist::Reached seen;
  std::thread watch([&] {
    while (!communicator->reached()->inside) std::this_thread::yield();
    std::this_thread::sleep_for(30ms);
    seen = *communicator->reached();
    communicator->abort("rank 1 is lost");
  });
  backend(DeviceType::cuda).synchronize(current_stream(kCuda));
  watch.join();
  CHECK(seen.what == "slice 1 of 2");
  CHECK(seen.inside);
  CHECK(seen.operations == before->operations + 1);
  CHECK(seen.seconds >= 0.03);
  for (const auto& f : std::vector<std::function<void()>>{
           [&] { communicator->check_peers(); }, [&] { communicator->broadcast("state", a); },
           [&] { communicator->close(); }}) {
    const Error e = error_of(f);
    CHECK(e.code() == ExitCode::peer);
    CHECK(contains(e, "rank 1 is lost"));
  }
  step.forget();
  communicator.reset();
  CHECK(fake_nccl().aborts == 1);
}
