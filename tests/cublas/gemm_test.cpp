// core/cuda/gemm.cpp on a stand-in for cuBLASLt (library.h). This program also runs the tests of
// ops/linear on it.
#include "core/cuda/gemm.h"

#include <doctest/doctest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <sstream>

#include "autograd/tape.h"
#include "core/profile.h"
#include "ops/linear/linear.h"
#include "tests/cublas/library.h"
#include "tests/support/op_case.h"

using namespace sg;
using test::Algorithm, test::cublaslt;

namespace {

const Device kCuda{DeviceType::cuda, 0};

// dw (n, k) = dy^T x of `rows` rows. Plans are kept: each test has sizes of its own.
cuda::Gemm weights_of(In dy, In x, Out dw) {
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

// The library behaves as it is told for as long as it lives.
struct Told {
  Told() = default;
  ~Told() {
    const test::CublasLt usual;
    cublaslt().algorithms = usual.algorithms;
    cublaslt().bias_grad_algorithms = usual.bias_grad_algorithms;
    cublaslt().failing.clear(), cublaslt().failing_fused.clear();
  }
};

// What is logged while it lives.
class Log {
 public:
  Log() {
    spdlog::set_default_logger(std::make_shared<spdlog::logger>(
        "", std::make_shared<spdlog::sinks::ostream_sink_st>(text_)));
  }
  ~Log() { spdlog::set_default_logger(before_); }
  std::string text() const { return text_.str(); }
  auto lines() const { return std::ranges::count(text(), '\n'); }

 private:
  std::ostringstream text_;
  std::shared_ptr<spdlog::logger> before_ = spdlog::default_logger();
};

}  // namespace

TEST_CASE("gemm: an algorithm is sought once a shape, without sums in place") {
  const Tensor dy = full({6, 3}, 1, Dtype::bf16, kCuda), x = full({6, 5}, 1, Dtype::bf16, kCuda);
  Tensor dw = empty({3, 5}, Dtype::f32, kCuda);
  Stream& stream = current_stream(kCuda);
  const int searches = cublaslt().searches, matmuls = cublaslt().matmuls;
  for (int i = 0; i < 3; ++i) cuda::gemm(stream, weights_of(dy, x, dw));
  CHECK(cublaslt().searches == searches + 1);
  CHECK(cublaslt().matmuls == matmuls + 3);
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

TEST_CASE("gemm: a bias and its gradient where the library does not do them, whatever it says") {
  const Log log;
  int rows = 11;
  const auto train = [&](Dtype dtype) {
    const auto leaf = [&](Shape shape, double value) {
      return autograd::leaf(full(shape, value, dtype, kCuda), zeros(shape, Dtype::f32, kCuda));
    };
    const Tensor x = full({rows, 5}, 1, dtype, kCuda), w = leaf({3, 5}, 2), b = leaf({3}, 0.5);
    const Tensor y = linear(x, w, b);
    CHECK(to_vector<float>(y) == std::vector<float>(size_t(rows) * 3, 10.5));
    autograd::backward({y}, {full(y.shape(), 1, dtype, kCuda)});
    CHECK(to_vector<float>(autograd::grad_of(w)) == std::vector<float>(15, float(rows)));
    CHECK(to_vector<float>(autograd::grad_of(b)) == std::vector<float>(3, float(rows)));
  };
  for (const auto& [call, status] :
       {std::pair{"cublasLtMatmulAlgoGetHeuristic", CUBLAS_STATUS_NOT_SUPPORTED},
        {"cublasLtMatmulAlgoGetHeuristic", CUBLAS_STATUS_INTERNAL_ERROR},
        {"cublasLtMatmulDescSetAttribute", CUBLAS_STATUS_ARCH_MISMATCH},
        {"cublasLtMatmul", CUBLAS_STATUS_NOT_SUPPORTED}}) {
    CAPTURE(call);
    const Told told;
    for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
      cublaslt().failing_fused[call] = status;
      const int searches = cublaslt().searches;
      train(dtype);
      CHECK(cublaslt().searches > searches);
      cublaslt().failing_fused.clear();
      const int searches_before = cublaslt().searches;
      train(dtype);  // as it was found out the first time
      CHECK(cublaslt().searches == searches_before);
      ++rows;
    }
  }
  // Once a kind: a bias, and its gradient, in f32 and in bf16.
  CHECK(log.lines() == 4);
  CHECK(
      log.text().find("gemm in bf16: a pass of its own for the bias; first for bf16 (12, 3) = bf16 "
                      "(12, 5) rows 5 apart times (5, 3) transposed, rows 5 apart, with bias; "
                      "cuBLASLt (libcublasLt") != std::string::npos);
}

TEST_CASE("gemm: a long sum takes the first algorithm that fills the device, or the fullest") {
  const Told told;
  Stream& stream = current_stream(kCuda);
  const auto taken = [&](int64_t rows, std::vector<Algorithm> algorithms) {
    cublaslt().algorithms = std::move(algorithms);
    const Tensor dy = full({rows, 2}, 1, Dtype::f32, kCuda), x = dy.clone();
    Tensor dw = empty({2, 2}, Dtype::f32, kCuda);
    cuda::gemm(stream, weights_of(dy, x, dw));
    CHECK(to_vector<float>(dw) == std::vector<float>(4, float(rows)));
    return cublaslt().taken;
  };
  const Algorithm idle{.waves = 0.1f}, broken{.works = false};
  CHECK(taken(2048, {broken, idle, {}}) == 1);  // a short one: the first
  CHECK(taken(2049, {broken, idle, {}, {}}) == 2);
  CHECK(taken(2050, {idle, {.waves = 0.49f}, {.waves = 0.5f}}) == 2);
  CHECK(taken(2051, {idle, {.waves = 0.02f, .splits = 32}, {}}) == 1);
  CHECK(taken(2052, {idle, {.waves = 0.3f}, {.waves = 0.2f}, broken}) == 1);
}

TEST_CASE("gemm: the gradient of a bias is fused where its algorithm fills the device") {
  const Told told;
  Stream& stream = current_stream(kCuda);
  const auto fused = [&](int64_t rows, std::vector<Algorithm> with_bias) {
    cublaslt().bias_grad_algorithms = std::move(with_bias);
    const Tensor dy = full({rows, 3}, 2, Dtype::f32, kCuda),
                 x = full({rows, 4}, 1, Dtype::f32, kCuda);
    Tensor dw = full({3, 4}, 7, Dtype::f32, kCuda), db = full({3}, 7, Dtype::f32, kCuda);
    cuda::Gemm matmul = weights_of(dy, x, dw);
    matmul.bias_grad = db.data<float>();
    const bool done = cuda::fused_gemm(stream, matmul);
    CHECK(to_vector<float>(db) == std::vector<float>(3, done ? 2.0f * float(rows) : 7));
    CHECK(to_vector<float>(dw) == std::vector<float>(12, done ? 2.0f * float(rows) : 7));
    return done;
  };
  const Algorithm idle{.waves = 0.1f};
  // However few waves it would be without the gradient.
  cublaslt().algorithms = {idle};
  CHECK_FALSE(fused(3001, {idle, idle}));
  CHECK(fused(3002, {idle, {.waves = 0.5f}}));
  CHECK(cublaslt().taken == 1);
  CHECK(fused(3003, {idle, {.waves = 0.1f, .splits = 2}}));
  CHECK(fused(2000, {idle}));  // so short a sum that it does not matter
  CHECK_FALSE(fused(2001, {}));
}

TEST_CASE("gemm: what a matmul with an epilogue does not get is an error without it too") {
  const Told told;
  const Tensor x = full({31, 5}, 1, Dtype::f32, kCuda), w = full({3, 5}, 1, Dtype::f32, kCuda);
  cublaslt().failing["cublasLtMatmulAlgoGetHeuristic"] = CUBLAS_STATUS_INTERNAL_ERROR;
  CHECK_THROWS_WITH_AS(linear(x, w, full({3}, 1, Dtype::f32, kCuda)),
                       doctest::Contains("CUDA: cublasLtMatmulAlgoGetHeuristic failed"), Error);
  cublaslt().failing.clear();
  cublaslt().failing["cublasLtMatmul"] = CUBLAS_STATUS_EXECUTION_FAILED;
  CHECK_THROWS_WITH_AS(linear(x, w, {}), doctest::Contains("CUDA: cublasLtMatmul failed"), Error);
}

TEST_CASE("gemm: failures name the matmul") {
  Stream& stream = current_stream(kCuda);
  const Tensor dy = full({7, 3}, 1, Dtype::f32, kCuda), x = full({7, 5}, 1, Dtype::f32, kCuda);
  Tensor dw = empty({3, 5}, Dtype::f32, kCuda);
  cuda::Gemm matmul = weights_of(dy, x, dw);
  matmul.c_stride = 4;
  CHECK_THROWS_WITH_AS(
      cuda::gemm(stream, matmul),
      doctest::Contains("CUDA: cublasLtMatrixLayoutCreate failed: an invalid value; "
                        "matmul f32 (3, 5) = f32 (3, 7) transposed, rows 3 apart times (7, 5) rows "
                        "5 apart"),
      Error);
  matmul = weights_of(dy, x, dw);
  matmul.out = Dtype::bf16;
  CHECK_THROWS_WITH_AS(cuda::gemm(stream, matmul), "gemm: a matmul of f32 is f32, not bf16", Error);
  matmul = weights_of(dy, x, dw);
  matmul.bias = x.raw();
  CHECK_THROWS_AS(cuda::gemm(stream, matmul), Error);
}
