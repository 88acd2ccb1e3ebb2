// core/cuda/gemm.cpp on a stand-in for cuBLASLt (library.h). This program also runs the tests of
// ops/linear on it.
#include "core/cuda/gemm.h"

#include <doctest/doctest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <sstream>

#include "autograd/tape.h"
#include "ops/linear/linear.h"
#include "tests/cublas/library.h"
#include "tests/support/op_case.h"

using namespace sg;
using test::cublaslt;

namespace {

const Device kCuda{DeviceType::cuda, 0};

// dw (n, k) = dy^T x of `rows` rows.
cuda::Gemm weights_of(const Tensor& dy, const Tensor& x, const Tensor& dw) {
  return {.m = dy.dim(1),
          .n = x.dim(1),
          .k = x.dim(0),
          .in = x.dtype(),
          .a = {dy.raw(), dy.dim(1), true},
          .b = {x.raw(), x.dim(1)},
          .out = dw.dtype(),
          .c = dw.raw(),
          .c_stride = x.dim(1)};
}

}  // namespace

TEST_CASE("gemm: an algorithm is sought once a shape, without sums in place") {
  const Tensor dy = full({6, 3}, 1, Dtype::bf16, kCuda), x = full({6, 5}, 1, Dtype::bf16, kCuda);
  const Tensor dw = empty({3, 5}, Dtype::f32, kCuda);
  Stream& stream = current_stream(kCuda);
  const int searches = cublaslt().searches, products = cublaslt().products;
  for (int i = 0; i < 3; ++i) cuda::gemm(stream, weights_of(dy, x, dw));
  CHECK(cublaslt().searches == searches + 1);
  CHECK(cublaslt().products == products + 3);
  CHECK(cublaslt().reductions == 2);  // none is 0; with sums in float, in a step of their own
  CHECK(cublaslt().workspace == 32u << 20);
  CHECK(to_vector<float>(dw) == std::vector<float>(15, 6));

  // Memory that is aligned otherwise is another case.
  cuda::Gemm moved = weights_of(dy, x, dw);
  moved.k = 5, moved.b.data = static_cast<const bf16*>(x.raw()) + x.dim(1);
  cuda::gemm(stream, moved);
  CHECK(cublaslt().searches == searches + 2);
  CHECK(cublaslt().alignment_a == 2);  // the library's a is b
  CHECK(cublaslt().alignment_b == 256);
}

TEST_CASE("gemm: the gradient of a bias on the way, where that fills the device as well") {
  Stream& stream = current_stream(kCuda);
  for (const auto& [waves, rows] : {std::pair{0.5f, 8}, {1.0f, 9}}) {
    cublaslt().bias_grad_waves = waves;
    const Tensor dy = full({rows, 3}, 2, Dtype::f32, kCuda),
                 x = full({rows, 4}, 1, Dtype::f32, kCuda);
    const Tensor dw = empty({3, 4}, Dtype::f32, kCuda), db = zeros({3}, Dtype::f32, kCuda);
    cuda::Gemm product = weights_of(dy, x, dw);
    product.bias_grad = db.data<float>();
    CHECK(cuda::fuses(stream, product) == (waves >= 1));
    cuda::gemm(stream, product);
    CHECK(to_vector<float>(db) == std::vector<float>(3, 2.0f * float(rows)));
  }
  cublaslt().bias_grad_waves = 1;
}

TEST_CASE("gemm: a bias and its gradient where the library has no algorithm with them") {
  std::ostringstream log;
  const auto logger_before = spdlog::default_logger();
  spdlog::set_default_logger(
      std::make_shared<spdlog::logger>("", std::make_shared<spdlog::sinks::ostream_sink_st>(log)));
  cublaslt().none_fused = true;
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16})
    for (const int rows : {11, 12}) {  // sizes of this test alone: plans are kept
      const auto leaf = [&](Shape shape, double value) {
        return autograd::leaf(full(shape, value, dtype, kCuda), zeros(shape, Dtype::f32, kCuda));
      };
      const Tensor x = full({rows, 5}, 1, dtype, kCuda), w = leaf({3, 5}, 2), b = leaf({3}, 0.5);
      const Tensor y = linear(x, w, b);
      CHECK(to_vector<float>(y) == std::vector<float>(size_t(rows) * 3, 10.5));
      autograd::backward({y}, {full(y.shape(), 1, dtype, kCuda)});
      CHECK(to_vector<float>(autograd::grad_of(w)) == std::vector<float>(15, float(rows)));
      CHECK(to_vector<float>(autograd::grad_of(b)) == std::vector<float>(3, float(rows)));
    }
  cublaslt().none_fused = false;
  spdlog::set_default_logger(logger_before);
  // Once a kind: a bias, and its gradient, in f32 and in bf16.
  const std::string said = log.str();
  CHECK(std::count(said.begin(), said.end(), '\n') == 4);
  CHECK(said.find("cuBLASLt has no algorithm for the product bf16 (11, 3) = bf16 (11, 5) rows 5 "
                  "apart times (5, 3) transposed, rows 5 apart, with bias") != std::string::npos);
}

TEST_CASE("gemm: failures name the product") {
  Stream& stream = current_stream(kCuda);
  const Tensor dy = full({7, 3}, 1, Dtype::f32, kCuda), x = full({7, 5}, 1, Dtype::f32, kCuda);
  const Tensor dw = empty({3, 5}, Dtype::f32, kCuda);
  cuda::Gemm product = weights_of(dy, x, dw);
  cublaslt().none = true;
  CHECK_THROWS_WITH_AS(
      cuda::gemm(stream, product),
      doctest::Contains("has no algorithm for the product f32 (3, 5) = f32 (3, 7) transposed, rows "
                        "3 apart times (7, 5) rows 5 apart"),
      Error);
  cublaslt().none = false;
  product.c_stride = 4;
  CHECK_THROWS_WITH_AS(
      cuda::gemm(stream, product),
      doctest::Contains("CUDA: cublasLtMatrixLayoutCreate failed: an invalid value; "
                        "product f32 (3, 5)"),
      Error);
  product = weights_of(dy, x, dw);
  product.out = Dtype::bf16;
  CHECK_THROWS_WITH_AS(cuda::gemm(stream, product), "gemm: a product of f32 is f32, not bf16",
                       Error);
}
