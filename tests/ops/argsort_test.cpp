#include "ops/argsort/argsort.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/cpu/parallel.h"
#include "tests/support/faults.h"
#include "tests/support/op_case.h"

using namespace sg;

namespace {

// The contract, literally: ascending, ties by index, NaNs last.
template <class T>
std::vector<int32_t> expected(const std::vector<T>& values, int64_t images) {
  std::vector<int32_t> order(values.size());
  const int64_t n = images ? int64_t(values.size()) / images : 0;
  for (int64_t b = 0; b < images; ++b) {
    const T* v = values.data() + b * n;
    std::iota(order.begin() + b * n, order.begin() + (b + 1) * n, 0);
    std::stable_sort(order.begin() + b * n, order.begin() + (b + 1) * n, [v](int32_t i, int32_t j) {
      return std::isnan(v[j]) ? !std::isnan(v[i]) : v[i] < v[j];
    });
  }
  return order;
}

// On the CPU, and in f32 on the device cuda where it is there, with threads in both orders.
template <class T>
void check_rank(const Tensor& significance) {
  const auto right = expected(to_vector<T>(significance), significance.dim(0));
  const auto check = [&](const Tensor& x) {
    const Tensor order = argsort(x);
    CHECK(order.shape() == Shape{x.dim(0), x.dim(1) * x.dim(2)});
    CHECK(to_vector<int32_t>(order) == right);
  };
  check(significance);
  if (significance.dtype() != Dtype::f32 || !test::have_cuda()) return;
  CAPTURE("on cuda");
  check(significance.to(test::kCuda));
  if (test::emulated() && significance.numel() > 16384) return;  // slow
  const test::OtherThreadOrder other;
  check(significance.to(test::kCuda));
}

}  // namespace

TEST_CASE("argsort: random maps of any size, f32 and f64") {
  for (const auto& [b, h, w] : {std::tuple{1, 1, 1},
                                {3, 7, 5},
                                {2, 56, 56},
                                {5, 13, 17},
                                {1, 64, 64},   // the most tokens that a CUDA block sorts alone
                                {2, 17, 241},  // one more
                                {1, 200, 336},
                                {0, 4, 4},
                                {2, 0, 3}}) {
    const Tensor x = test::random({b, h, w}, 1);
    check_rank<double>(x);
    check_rank<float>(x.to(Dtype::f32));
    // Significances differ little: values in [1, 1 + 2^-10) share their upper bytes and many tie.
    const Tensor close = test::random({b, h, w}, 2, 1, 1 + 0x1p-10).to(Dtype::f32);
    check_rank<double>(close.to(Dtype::f64));
    if (!test::emulated() || close.numel() < 16384) check_rank<float>(close);
  }
}

TEST_CASE("argsort: ties by index, both zeros equal, negative values, infinities, NaNs last") {
  const double inf = std::numeric_limits<double>::infinity(), nan = std::nan("");
  const std::vector<double> v{0.0, nan, -0.0, 2, -1, inf, -nan, -1, -inf, 1e-45, -1e-45, inf, 2, 0};
  const std::vector<int32_t> order{8, 4, 7, 10, 0, 2, 13, 9, 3, 12, 5, 11, 1, 6};
  const Tensor x = from_vector(v, {1, 2, 7});
  CHECK(to_vector<int32_t>(argsort(x)) == order);
  check_rank<float>(x.to(Dtype::f32));
  // The same among many others, where CUDA sorts by tiles.
  std::vector<double> many(6000);
  for (size_t i = 0; i < many.size(); ++i) many[i] = v[i * i % v.size()];
  check_rank<float>(from_vector(many, {1, 60, 100}).to(Dtype::f32));
}

TEST_CASE("argsort: equal tokens keep their places") {
  check_rank<float>(full({2, 20, 20}, 0.25));
  Tensor x = test::random({2, 70, 70}, 3);
  for (double& v : x.span<double>()) v = std::floor(4 * v);
  check_rank<double>(x);
  check_rank<float>(x.to(Dtype::f32));
}

TEST_CASE("argsort: the same for any number of threads") {
  const Tensor x = test::random({5, 30, 31}, 4);
  const int threads = num_threads();
  set_num_threads(1);
  const std::vector<int32_t> one = to_vector<int32_t>(argsort(x));
  set_num_threads(3);
  CHECK(to_vector<int32_t>(argsort(x)) == one);
  set_num_threads(threads);
}

TEST_CASE("argsort: wrong arguments are named, gradients refused") {
  CHECK_THROWS_WITH_AS(argsort(zeros({2, 8})),
                       "argsort: significance: expected 3 dimensions, found (2, 8)", Error);
  CHECK_THROWS_WITH_AS(argsort(zeros({1, 2, 2}, Dtype::i32)),
                       "argsort: dtype i32 is not supported here", Error);
  CHECK_THROWS_AS(argsort(autograd::leaf(zeros({1, 2, 2}))), Error);
}
