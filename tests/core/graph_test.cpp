// Records of several keys on the device cuda; tests/cudart and tests/emulation have those of one.
#include "core/graph.h"

#include <doctest/doctest.h>

#include "core/tensor.h"
#include "tests/support/skip.h"

using namespace sg;
using namespace sg::test;

namespace {

// result = x, by way of tensors whose sizes grow with n.
void work(int64_t n, const Tensor& x, Tensor& result) {
  Tensor wide = empty({3 * n}, Dtype::f32, kCuda), copy = empty({n}, Dtype::f32, kCuda);
  wide.slice(n, 2 * n).copy_(x.slice(0, n));
  {
    const Tensor other = wide.clone();
    copy.copy_(other.slice(n, 2 * n));
  }
  const Tensor last = copy.clone();
  result.slice(0, n).copy_(last);
}

}  // namespace

TEST_CASE(
    "graph: records of several sizes share one pool of memory and do not disturb each other") {
  if (!have_cuda()) return;
  const int64_t most = 1 << 20;
  Tensor x = zeros({most}, Dtype::f32, kCuda), result = zeros({most}, Dtype::f32, kCuda);
  const std::vector<int64_t> sizes{most, most - 5000, most * 3 / 4, most / 2, most / 8, 1000};
  size_t largest = 0;
  Graph graph(kCuda);
  for (int round = 0; round < 4; ++round)
    for (const int64_t n : sizes) {
      x.fill_(round + double(n) / 4096);
      result.fill_(-1);
      graph.run({uint64_t(n)}, [&] { work(n, x, result); });
      if (largest == 0) largest = graph.reserved();
      CHECK(to_vector<float>(result.slice(0, n)) == to_vector<float>(x.slice(0, n)));
      if (n < most) CHECK(to_vector<float>(result.slice(n, n + 1)) == std::vector<float>{-1});
    }
  CHECK(graph.captures() == sizes.size());
  CHECK(graph.reserved() == largest);  // that of the largest alone
}

TEST_CASE("graph: beyond the most records, operations are issued one by one") {
  if (!have_cuda()) return;
  Tensor x = zeros({4}, Dtype::f32, kCuda), result = zeros({4}, Dtype::f32, kCuda);
  Graph graph(kCuda, true, 2);
  int calls[4] = {};
  for (int round = 1; round < 6; ++round)
    for (const uint64_t key : {0, 1, 2, 3}) {
      x.fill_(round * 10 + double(key));
      graph.run({key}, [&] {
        ++calls[key];
        work(4, x, result);
      });
      CHECK(to_vector<float>(result) == to_vector<float>(x));
    }
  CHECK(graph.captures() == 2);
  for (const int key : {0, 1}) CHECK(calls[key] == 2);
  for (const int key : {2, 3}) CHECK(calls[key] == 5);
}

TEST_CASE("graph: a tensor that outlives its work is an error, not memory that is overwritten") {
  if (!have_cuda()) return;
  Tensor kept;
  Graph graph(kCuda);
  CHECK_THROWS_WITH_AS(graph.run({1}, [&] { kept = zeros({4}, Dtype::f32, kCuda); }),
                       doctest::Contains("512 bytes of tensors stay"), Error);
  kept = Tensor();
}
