// core/cuda/runtime.cpp and launch.cuh on a stand-in for the CUDA runtime (library.h). This program
// also runs tests of train/ on it, with the kernels of the emulation.
#include "core/cuda/runtime.h"

#include <doctest/doctest.h>

#include <cstring>
#include <set>

#include "core/capture.h"
#include "core/compute.h"
#include "core/cpu/bf16_products.h"
#include "core/cuda/launch.cuh"
#include "core/graph.h"
#include "core/profile.h"
#include "core/tensor.h"
#include "tests/cudart/library.h"

using namespace sg;
using test::Gpu, test::cudart;

namespace {

const Device kCuda{DeviceType::cuda, 0}, kSecond{DeviceType::cuda, 1};

Backend& the_backend() { return backend(DeviceType::cuda); }

// Another machine for as long as it lives.
struct Machine {
  explicit Machine(std::vector<Gpu> gpus, int driver = CUDART_VERSION) {
    cudart().gpus = std::move(gpus), cudart().driver = driver;
  }
  ~Machine() { cudart().gpus = {{}, {}}, cudart().driver = CUDART_VERSION; }
};

std::string refusal(Device device) {
  try {
    require(device);
  } catch (const Error& e) {
    CHECK(e.code() == ExitCode::usage);
    return e.what();
  }
  return "";
}

struct Number {
  int value;
};
__global__ void kernel(Number) {}

void start(const cuda::Launch& l, int value = 0) {
  cuda::launch(current_stream(kCuda), l, kernel, Number{value});
}

}  // namespace

TEST_CASE("runtime: GPUs that are not there, or not for us, are refused with the reason") {
  CHECK(refusal(kCuda) == "");
  CHECK(refusal({DeviceType::cuda, 2}) ==
        "device cuda:2: there are 2 devices; use cuda:0 to cuda:1");
  {
    const Machine one({Gpu{}});
    CHECK(refusal(kSecond) == "device cuda:1: there is 1 device; use cuda:0");
    CHECK_FALSE(available(kSecond));
  }
  {
    const Machine no_driver({}, 0);
    CHECK(refusal(kCuda) == "device cuda:0: no NVIDIA driver is installed; use --device cpu");
    CHECK_FALSE(available(kCuda));
  }
  {
    const Machine old({Gpu{}}, 11080);
    const std::string built =
        fmt::format("{}.{}", CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    CHECK(refusal(kCuda) == "device cuda:0: the driver knows CUDA 11.8, this build needs " + built +
                                "; install a newer NVIDIA driver, or use --device cpu");
  }
  {
    const Machine no_card({});
    CHECK(refusal(kCuda) ==
          "device cuda:0: no usable NVIDIA GPU was found (no CUDA-capable device is detected); "
          "use --device cpu");
    setenv("CUDA_VISIBLE_DEVICES", "", 1);
    CHECK(refusal(kCuda).find("detected, CUDA_VISIBLE_DEVICES is '')") != std::string::npos);
    unsetenv("CUDA_VISIBLE_DEVICES");
  }
  {
    const Machine turing({Gpu{"Tesla T4", 7, 5}});
    CHECK(refusal(kCuda) ==
          "device cuda:0: Tesla T4 has compute capability 7.5, at least 8.0 (Ampere) is needed; "
          "use --device cpu");
  }
  {
    const Machine geforce({Gpu{"NVIDIA GeForce RTX 4090", 8, 9, SIZE_MAX, 99 << 10}});
    CHECK(refusal(kCuda).find("99 KiB of shared memory a block, 163 KiB are needed") !=
          std::string::npos);
  }
}

TEST_CASE("runtime: --device auto is the first GPU that can be used, else the CPU and why") {
  CHECK(describe(parse_compute("auto", "auto")).starts_with("computing on cuda:0: GPU, "));
  CHECK(parse_compute("auto", "auto").dtype == Dtype::bf16);
  {
    const Machine mixed({Gpu{"Tesla T4", 7, 5}, Gpu{}});
    CHECK(parse_compute("auto", "f32").device == kSecond);
  }
  {
    const Machine old({Gpu{"Tesla T4", 7, 5}});
    CHECK(describe(parse_compute("auto", "f32")) ==
          "computing on cpu: Tesla T4 has compute capability 7.5, at least 8.0 (Ampere) is needed; "
          "f32");
  }
  const Machine no_driver({}, 0);
  const Compute c = parse_compute("auto", "auto");
  CHECK(c.device == Device{});
  CHECK(c.dtype == Dtype::f32);
  CHECK(describe(c).starts_with("computing on cpu: no NVIDIA driver is installed; f32"));
  CHECK(describe(c).ends_with("(--dtype bf16 is faster on this CPU)") == has_bf16_products());
  CHECK(describe(parse_compute("cpu", "f32")) == "computing on cpu: CPU; f32");
  ::setenv("SG_REQUIRE_CUDA", "1", 1);
  CHECK_THROWS_WITH_AS(parse_compute("auto", "auto"),
                       "--device: SG_REQUIRE_CUDA is set, and this would compute on the cpu (no "
                       "NVIDIA driver is installed); use --device cuda, or unset SG_REQUIRE_CUDA",
                       Error);
  ::unsetenv("SG_REQUIRE_CUDA");
}

TEST_CASE("runtime: a GPU without code for it is told from a kernel that cannot start") {
  const Machine blackwell({Gpu{"NVIDIA B200", 10, 0}});
  const cuda::Launch l{"layer_norm.fwd", {2, 3}, 64, 100};
  for (const auto& [call, shared] :
       {std::pair{"cudaLaunchKernel", 64 << 10}, {"cudaFuncSetAttribute", 65 << 10}}) {
    cudart().failing[call] = cudaErrorNoKernelImageForDevice;
    cuda::Launch large = l;
    large.shared = size_t(shared);
    CHECK_THROWS_WITH_AS(
        start(large),
        doctest::Contains("no code for NVIDIA B200 (compute capability 10.0), it was built for "
                          "8.0, 9.0: kernel layer_norm.fwd: no kernel image is available"),
        Error);
  }
  cudart().failing["cudaLaunchKernel"] = cudaErrorLaunchOutOfResources;
  CHECK_THROWS_WITH_AS(
      start(l),
      doctest::Contains("kernel layer_norm.fwd failed to start: another failure (cudaErrorOther); "
                        "grid 2 x 3 x 1, block 64 x 1 x 1, 100 bytes of shared memory"),
      Error);
}

TEST_CASE("launch: much shared memory is asked for, and no launch takes it from another") {
  auto& c = cudart();
  void (*const kernel)(Number, int) = [](Number, int) {};  // of this test alone
  const auto limit = [&](int device) {
    return c.shared_limits[{device, reinterpret_cast<const void*>(kernel)}];
  };
  const auto start_with = [&](Device device, size_t shared) {
    cuda::launch(current_stream(device), {"large", 7, 32, shared}, kernel, Number{1}, 2);
  };
  start_with(kCuda, 32 << 10);
  CHECK(limit(0) == 0);
  c.calls.clear();
  for (const size_t shared : {size_t{100} << 10, size_t{60} << 10, size_t{100} << 10}) {
    start_with(kCuda, shared);  // the second, as a recorded launch of the first would find it
    CHECK(limit(0) == 100 << 10);
  }
  CHECK(c.count("cudaFuncSetAttribute") == 1);
  start_with(kCuda, 120 << 10);
  CHECK(limit(0) == 120 << 10);
  start_with(kSecond, 60 << 10);  // limits are those of a device
  CHECK(limit(1) == 60 << 10);
  CHECK_THROWS_AS(start_with(kCuda, 228 << 10), Error);  // more than a block can have
  start_with(kCuda, 120 << 10);
  CHECK(limit(0) == 120 << 10);
}

TEST_CASE("launch: what is started, and an empty grid, which starts nothing") {
  auto& c = cudart();
  c.starts.clear();
  start({"small", 7, 32, 32 << 10}, 5);
  start({"large", 7, 32, (32 << 10) + 1}, 6);
  for (const dim3& grid : {dim3(0), dim3(1, 0), dim3(1, 1, 0)}) start({"empty", grid, 32});
  REQUIRE(c.starts.size() == 2);
  CHECK(c.starts[0].value == 5);
  CHECK(c.starts[1].value == 6);
  CHECK(c.starts[1].shared == (32 << 10) + 1);
  CHECK(c.starts[1].grid.x == 7);
  CHECK(c.starts[1].block.x == 32);
  CHECK(c.starts[1].stream == static_cast<cudaStream_t>(current_stream(kCuda).handle));
  CHECK_THROWS_WITH_AS(start({"huge", 1, 32, 228 << 10}),
                       doctest::Contains("kernel huge failed to start: another failure"), Error);
}

TEST_CASE("runtime: memory that runs out names what was asked and what is free") {
  const Machine small({Gpu{"GPU", 9, 0, 1 << 20}});
  Allocator memory(kCuda);
  const Allocator::Block block = memory.allocate(256 << 10);
  // What is cached, here and by the device, is given back before.
  Allocator& common = Allocator::of(kCuda);
  common.release(common.allocate(512 << 10));
  memory.release(memory.allocate(200 << 10));
  memory.release(memory.allocate(700 << 10));
  try {
    memory.allocate(1 << 20);
    FAIL("expected OutOfMemory");
  } catch (const OutOfMemory& e) {
    CHECK(e.asked == 1 << 20);
    CHECK(e.in_use == 256 << 10);
    CHECK(e.free == 768 << 10);
    CHECK(std::string(e.what()) ==
          "cuda:0: out of memory: 1048576 bytes asked, 786432 bytes free, 262144 bytes in use by "
          "tensors; use a smaller batch");
  }
  memory.release(block);
  cudart().failing["cudaHostAlloc"] = cudaErrorMemoryAllocation;
  CHECK(the_backend().allocate_pinned(100) == nullptr);
  cudart().failing["cudaMalloc"] = cudaErrorIllegalAddress;  // of earlier work: not a full GPU
  CHECK_THROWS_WITH_AS(the_backend().allocate(kCuda, 100), doctest::Contains("cudaMalloc failed"),
                       Error);
}

TEST_CASE("runtime: what earlier work did is said where it is met, with how to find it") {
  const auto fails_next = [] {
    cudart().failing["cudaStreamSynchronize"] = cudaErrorIllegalAddress;
  };
  fails_next();
  CHECK_THROWS_WITH_AS(
      the_backend().synchronize(current_stream(kCuda)),
      doctest::Contains("an illegal memory access was encountered (cudaErrorIllegalAddress); "
                        "earlier work of the device did this: to have it named, run again with "
                        "--eager and CUDA_LAUNCH_BLOCKING=1"),
      Error);
  // On the way out of such an error nothing else is thrown, which would end the program.
  {
    Graph graph(kCuda);
    graph.run({1}, [] { zeros({4}, Dtype::f32, kCuda); });
    fails_next();
  }
  profile::start(kCuda);
  {
    const profile::OpScope scope("op", 0, 0);
    cudart().failing["cudaEventRecord"] = cudaErrorIllegalAddress;
  }
  CHECK(profile::stop().empty());
  {
    Allocator memory(kCuda);
    memory.release(memory.allocate(1));
    cudart().failing["cudaSetDevice"] = cudart().failing["cudaFree"] = cudaErrorIllegalAddress;
  }
  CHECK(cudart().failing.empty());
}

TEST_CASE("runtime: work on each of two devices, in its own streams and memory") {
  for (const Device device : {kCuda, kSecond, kCuda}) {
    const Tensor t = full({3}, 0, Dtype::u8, Device{}).to(device);
    CHECK(to_vector<uint8_t>(t) == std::vector<uint8_t>(3, 0));
    std::set<void*> handles;
    for (auto role : {StreamRole::compute, StreamRole::copy, StreamRole::communication})
      handles.insert(the_backend().stream(device, role).handle);
    CHECK(handles.size() == kStreamRoles);
    CHECK(t.stream().handle == the_backend().stream(device, StreamRole::compute).handle);
    int current = -1;
    cudaGetDevice(&current);
    CHECK(current == device.index);
  }
  CHECK(current_stream(kCuda).handle != current_stream(kSecond).handle);
}

TEST_CASE("runtime: events order streams, whichever is ahead") {
  for (const bool lazy : {false, true}) {
    cudart().computing_waits = lazy, cudart().copying_waits = !lazy;
    Tensor from = empty_pinned({8}, Dtype::u8, kCuda), to = empty({8}, Dtype::u8, kCuda);
    Stream &compute = current_stream(kCuda),
           &copies = the_backend().stream(kCuda, StreamRole::copy);
    const auto arrived = the_backend().event(kCuda), used = the_backend().event(kCuda);
    arrived->synchronize();  // never recorded: reached
    for (uint8_t i = 1; i < 5; ++i) {
      arrived->synchronize();
      std::memset(from.raw(), i, 8);
      used->wait_in(copies);
      the_backend().copy(copies, to.raw(), from.raw(), 8);
      arrived->record(copies);
      arrived->wait_in(compute);
      const Tensor copy = to.clone();
      used->record(compute);
      CHECK(to_vector<uint8_t>(copy) == std::vector<uint8_t>(8, i));
    }
    CHECK(used->seconds_since(*arrived) == doctest::Approx(0.002));
  }
  cudart().computing_waits = cudart().copying_waits = false;
  CHECK(cudart().events == 0);
}

TEST_CASE("graph: issued, then recorded and started, then started alone") {
  auto& c = cudart();
  Tensor counter = zeros({4}, Dtype::u8, kCuda), total = zeros({4}, Dtype::u8, kCuda);
  {
    Graph graph(kCuda);
    int ran = 0;
    for (uint8_t step = 1; step < 6; ++step) {
      counter.copy_(full({4}, step, Dtype::u8));
      const size_t allocations = c.allocations;
      c.calls.clear();
      graph.run({1}, [&] { ++ran, total.copy_(counter.clone()); });
      CHECK(to_vector<uint8_t>(total) == std::vector<uint8_t>(4, step));
      CHECK(ran == std::min<int>(step, 2));
      CHECK(c.count("cudaStreamBeginCapture") == (step == 2));
      CHECK(c.count("cudaStreamEndCapture") == (step == 2));
      CHECK(c.count("cudaGraphLaunch") == (step >= 2));
      CHECK(c.count("cudaMemcpyAsync") == (step <= 2 ? 3 : 1));  // the last is our own look
      if (step > 1) CHECK(c.allocations == allocations);
    }
    CHECK(c.graphs == 0);  // only what was made of it is kept
    CHECK(c.records == 1);
  }
  CHECK(c.records == 0);
}

TEST_CASE("graph: recording that fails is ended, leaves nothing, and can be tried again") {
  auto& c = cudart();
  Tensor t = zeros({4}, Dtype::u8, kCuda);
  Graph graph(kCuda);
  std::function<void()> trouble = [] {};
  const auto run = [&] {
    graph.run({1}, [&] {
      t.copy_(t.clone());
      trouble();
    });
  };
  run();
  const auto fails_with = [&](const char* message) {
    CHECK_THROWS_WITH_AS(run(), doctest::Contains(message), Error);
    CHECK(c.graphs == 0);
    CHECK(c.records == 0);
    to_vector<uint8_t>(t);  // the stream takes work again
  };
  trouble = [] { fail(ExitCode::failure, "an operation failed"); };
  fails_with("an operation failed");
  trouble = [&] { to_vector<uint8_t>(t); };  // what may not be recorded spoils the recording
  fails_with("cudaMemcpyAsync");
  trouble = [&] { the_backend().synchronize(current_stream(kCuda)); };
  fails_with("cudaStreamSynchronize");
  trouble = [] {};
  for (const char* call :
       {"cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate"}) {
    c.failing[call] = cudaErrorUnknown;
    fails_with(call);
  }
  run(), run();
  CHECK(c.records == 1);
}

TEST_CASE("graph: a stream that waits for the recorded one is recorded too, and must be joined") {
  auto& c = cudart();
  Tensor from = zeros({4}, Dtype::u8, kCuda), beside = zeros({4}, Dtype::u8, kCuda);
  Tensor total = zeros({4}, Dtype::u8, kCuda);
  Stream &compute = current_stream(kCuda),
         &other = the_backend().stream(kCuda, StreamRole::communication);
  const auto ready = the_backend().event(kCuda), done = the_backend().event(kCuda);
  bool joins = true;
  Graph graph(kCuda);
  const auto step = [&](uint64_t key) {
    graph.run({key}, [&] {
      const Tensor copy = from.clone();
      ready->record(compute), ready->wait_in(other);
      the_backend().copy(other, beside.raw(), copy.raw(), 4);
      done->record(other);
      if (!joins) return;
      done->wait_in(compute);
      total.copy_(beside);
    });
  };
  for (const auto& [computing, communicating] :
       {std::pair{false, false}, {true, false}, {false, true}}) {
    c.computing_waits = computing, c.communicating_waits = communicating;
    for (uint8_t i = 1; i < 5; ++i) {
      from.copy_(full({4}, i, Dtype::u8));
      step(1);
      CHECK(to_vector<uint8_t>(total) == std::vector<uint8_t>(4, i));
    }
  }
  c.computing_waits = c.communicating_waits = false;
  joins = false;
  step(2);
  CHECK_THROWS_WITH_AS(step(2), doctest::Contains("cudaStreamEndCapture"), Error);
  done->record(other);  // the stream is free again
}

TEST_CASE("graph: what captured work needs is kept until the work has been dropped") {
  const auto thing = std::make_shared<int>(1);
  Tensor t = zeros({4}, Dtype::u8, kCuda);
  Graph graph(kCuda);
  const auto run = [&] {
    graph.run({1}, [&] {
      t.zero_();
      keep_with_capture(thing);
    });
  };
  run();
  CHECK(thing.use_count() == 1);  // issued, not captured
  run(), run();
  CHECK(thing.use_count() == 2);
  graph.forget();
  CHECK(thing.use_count() == 1);
}

TEST_CASE("graph: where memory runs out while work is recorded, none that it uses is given back") {
  const Machine small({Gpu{"GPU", 9, 0, 1 << 20}});
  Allocator::of(kCuda).release_cached();
  Graph graph(kCuda);
  int64_t second = 1 << 10;
  const auto work = [&] {
    zeros({256 << 10}, Dtype::u8, kCuda);
    zeros({second}, Dtype::u8, kCuda);
  };
  graph.run({1}, work);
  second = 1 << 20;
  cudart().calls.clear();
  CHECK_THROWS_AS(graph.run({1}, work), OutOfMemory);
  CHECK(cudart().count("cudaFree") == 0);
  CHECK(cudart().graphs == 0);
  second = 1 << 10;
  graph.run({1}, work);
  CHECK(cudart().records == 1);
}
