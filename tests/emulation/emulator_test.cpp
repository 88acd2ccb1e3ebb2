// Is the emulation itself right, and does it find what it promises to find?
#include "tests/emulation/emulator.h"

#include <doctest/doctest.h>

#include <numeric>

#include "core/cuda/kernel.cuh"
#include "core/graph.h"
#include "core/tensor_kernels.h"
#include "tests/emulation/backend.h"

using namespace sg;

namespace {

const Device kCuda{DeviceType::cuda, 0};

void sum_kernel(const float* x, float* y) {
  __shared__ float scratch[33];
  const float v = cuda::block_sum(x[blockIdx.x * blockDim.x + threadIdx.x], scratch);
  if (threadIdx.x == 0) y[blockIdx.x] = v;
}

void racy_kernel(float* y) {
  __shared__ float shared[64];
  shared[threadIdx.x] = float(threadIdx.x);
  y[threadIdx.x] = shared[63 - threadIdx.x];  // without a barrier
}

// Every thread puts a number where another reads, with a copy that it does not wait for.
void early_copy_kernel(const float* x, float* y) {
  __shared__ cuda::Vec<float, 4> shared[64];
  const int i = int(threadIdx.x);
  shared[i][0] = -1;
  __syncthreads();
  cuda::copy_async_16(&shared[i], x + 4 * i);
  cuda::commit_copies();
  y[i] = shared[63 - i][0];
  cuda::wait_copies<0>();
}

void parted_kernel(float* y) {
  if (threadIdx.x % 2 == 0)
    y[threadIdx.x] = cuda::shuffle(1.0f, 0);
  else
    y[threadIdx.x] = float(cuda::ballot(true));
}

void unaligned_kernel(const float* x, float* y) { cuda::store<4>(y, cuda::load<4>(x)); }

void divergent_kernel(float*) {
  if (threadIdx.x < 32) __syncthreads();
}

void mma_kernel(const float* a, const float* b, float* d) {
  __shared__ bf16 rows[16 * 16], columns[16 * 8];
  for (int i = threadIdx.x; i < 256; i += 32) rows[i] = bf16(a[i]);
  for (int i = threadIdx.x; i < 128; i += 32) columns[i] = bf16(b[i]);
  __syncthreads();
  const int lane = int(threadIdx.x), g = lane / 4, t = lane % 4;
  uint32_t fa[4], fb[4];
  // Matrices: rows 0-7 and 8-15 of columns 0-7, then of columns 8-15.
  cuda::load_matrices<false>(fa, rows + (lane % 16) * 16 + lane / 16 * 8);
  cuda::load_matrices<true>(fb, columns + (lane % 16) * 8);
  float sum[4] = {};
  cuda::mma_16x8x16(sum, fa, {fb[0], fb[1]});
  for (int i = 0; i < 4; ++i) d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sum[i];
}

std::vector<float> iota(int n) {
  std::vector<float> v(static_cast<size_t>(n));
  std::iota(v.begin(), v.end(), -20.0f);
  return v;
}

}  // namespace

TEST_CASE("emulation: blocks, barriers and shuffles") {
  Tensor x = from_vector(iota(3 * 96), {3 * 96}), y = zeros({3});
  Stream& s = current_stream(kCuda);
  cuda::launch(s, {"sum", 3, 96}, sum_kernel, x.data<float>(), y.data<float>());
  for (int b = 0; b < 3; ++b) {
    float expected = 0;
    for (int i = 0; i < 96; ++i) expected += x.data<float>()[b * 96 + i];
    CHECK(y.data<float>()[b] == expected);
  }
}

TEST_CASE("emulation: a missing barrier shows as other bits in the other order") {
  Tensor a = zeros({64}), b = zeros({64});
  Stream& s = current_stream(kCuda);
  cuda::launch(s, {"racy", 1, 64}, racy_kernel, a.data<float>());
  emulation::set_order(emulation::Order::descending);
  cuda::launch(s, {"racy", 1, 64}, racy_kernel, b.data<float>());
  emulation::set_order(emulation::Order::ascending);
  CHECK(to_vector<float>(a) != to_vector<float>(b));
}

TEST_CASE("emulation: memory that is copied to while others read it shows in the same way") {
  Tensor x = from_vector(iota(256), {256}), a = zeros({64}), b = zeros({64});
  Stream& s = current_stream(kCuda);
  cuda::launch(s, {"early_copy", 1, 64}, early_copy_kernel, x.data<float>(), a.data<float>());
  emulation::set_order(emulation::Order::descending);
  cuda::launch(s, {"early_copy", 1, 64}, early_copy_kernel, x.data<float>(), b.data<float>());
  emulation::set_order(emulation::Order::ascending);
  CHECK(to_vector<float>(a) != to_vector<float>(b));
}

TEST_CASE("emulation: lanes that meet from different places of the code are an error") {
  Tensor y = zeros({32});
  CHECK_THROWS_WITH_AS(
      cuda::launch(current_stream(kCuda), {"parted", 1, 32}, parted_kernel, y.data<float>()),
      doctest::Contains("parted: threads meet from different places"), Error);
}

#ifdef SG_CHECKS_ALIGNMENT
TEST_CASE("emulation: an access to an address that is no multiple of its size is an error") {
  Tensor x = zeros({8}), y = zeros({8});
  Stream& s = current_stream(kCuda);
  const auto run = [&](int from, int to) {
    cuda::launch(s, {"unaligned", 1, 32}, unaligned_kernel, x.data<float>() + from,
                 y.data<float>() + to);
  };
  CHECK_NOTHROW(run(4, 4));
  CHECK_THROWS_WITH_AS(run(1, 0), doctest::Contains("no multiple of 16"), Error);
  CHECK_THROWS_WITH_AS(run(0, 2), doctest::Contains("no multiple of 16"), Error);
}
#endif

TEST_CASE("emulation: dry launches are checked, and touch nothing") {
  Tensor y = zeros({64});
  Stream& s = current_stream(kCuda);
  emulation::set_dry(true);
  cuda::launch(s, {"racy", 1, 64}, racy_kernel, y.data<float>());
  CHECK_THROWS_AS(cuda::launch(s, {"tall", dim3(1, 70000), 64}, racy_kernel, y.data<float>()),
                  Error);
  CHECK_THROWS_WITH_AS(cuda::launch(s, {"wide", 1, 64, 200 << 10}, racy_kernel, y.data<float>()),
                       doctest::Contains("bytes of shared memory"), Error);
  emulation::set_dry(false);
  CHECK(to_vector<float>(y) == std::vector<float>(64));
}

TEST_CASE("emulation: barriers that not all threads reach, and impossible sizes, are errors") {
  Stream& s = current_stream(kCuda);
  float* none = nullptr;
  // Those that return count as arrived, as on a GPU; so another barrier is needed to get stuck.
  CHECK_NOTHROW(cuda::launch(s, {"returns", 1, 64}, divergent_kernel, none));
  const auto stuck = +[](float*) {
    if (threadIdx.x < 40)
      __syncwarp();
    else
      __syncthreads();
  };
  CHECK_THROWS_WITH_AS(cuda::launch(s, {"stuck", 1, 64}, stuck, none),
                       doctest::Contains("different barriers"), Error);
  const auto partial = +[](float*) {
    if (threadIdx.x < 7) cuda::ballot(true);
  };
  CHECK_THROWS_WITH_AS(cuda::launch(s, {"partial", 1, 64}, partial, none),
                       doctest::Contains("have returned"), Error);
  CHECK_THROWS_AS(cuda::launch(s, {"odd", 1, 33}, divergent_kernel, none), Error);
  CHECK_THROWS_AS(cuda::launch(s, {"tall", dim3(1, 70000), 32}, divergent_kernel, none), Error);
}

TEST_CASE("emulation: matrix units") {
  const Tensor a = from_vector(iota(256), {256}), b = from_vector(iota(128), {128});
  Tensor d = zeros({128});
  cuda::launch(current_stream(kCuda), {"mma", 1, 32}, mma_kernel, a.data<float>(), b.data<float>(),
               d.data<float>());
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 8; ++j) {
      float expected = 0;
      for (int k = 0; k < 16; ++k)
        expected +=
            float(bf16(a.data<float>()[i * 16 + k])) * float(bf16(b.data<float>()[k * 8 + j]));
      CHECK(d.data<float>()[i * 8 + j] == doctest::Approx(expected));
    }
}

TEST_CASE("device memory: copies, conversions, filling, and running out") {
  const Tensor host = from_vector(iota(1000), {1000});
  const Tensor device = host.to(kCuda);
  CHECK(device.device() == kCuda);
  CHECK(to_vector<float>(device) == to_vector<float>(host));
  CHECK(to_vector<float>(device.to(Dtype::bf16)) == to_vector<float>(host.to(Dtype::bf16)));
  CHECK(to_vector<int32_t>(device.to(Dtype::i32)) == to_vector<int32_t>(host.to(Dtype::i32)));
  CHECK(full({5}, 2.5, Dtype::f32, kCuda).to(Device{}).data<float>()[4] == 2.5f);
  CHECK(to_vector<float>(zeros({3}, Dtype::f32, kCuda)) == std::vector<float>(3));
  emulation::limit_memory(64 << 20);
  CHECK_THROWS_WITH_AS(empty({128 << 20}, Dtype::u8, kCuda), doctest::Contains("134217728 bytes"),
                       Error);
  emulation::limit_memory(SIZE_MAX);
}

TEST_CASE("graph: runs one by one, is recorded, then is started as a whole") {
  Tensor x = full({4}, 1, Dtype::f32, kCuda), y = zeros({4}, Dtype::f32, kCuda);
  Graph graph(kCuda);
  int calls = 0;
  const auto work = [&] {
    ++calls;
    Tensor doubled = empty_like(x);
    kernels::convert(x.stream(), x, doubled);
    y.copy_(doubled);
  };
  for (int i = 0; i < 5; ++i) {
    x.fill_(i);
    graph.run({1}, work);
    CHECK(to_vector<float>(y) == std::vector<float>(4, float(i)));
  }
  CHECK(calls == 2);
  CHECK(graph.reserved() > 0);
}

TEST_CASE("graph: memory of the host that may be gone is not recorded") {
  Tensor y = zeros({4}, Dtype::f32, kCuda);
  Graph graph(kCuda);
  const auto work = [&] { y.copy_(full({4}, 1)); };
  graph.run({1}, work);
  CHECK_THROWS_WITH_AS(graph.run({1}, work), doctest::Contains("pageable"), Error);
}
