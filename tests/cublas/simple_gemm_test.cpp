// Matmuls that the stand-in for cuBLASLt refuses.
#include "core/cuda/simple_gemm.h"

#include <doctest/doctest.h>

#include <cmath>

#include "core/profile.h"
#include "tests/cublas/library.h"
#include "tests/support/faults.h"
#include "tests/support/op_case.h"

using namespace sg;
using namespace sg::test;

namespace {

// Values behind one element, so that bf16 has the alignment of 2 bytes and f32 that of 4.
struct Buffer {
  Tensor all;
  Buffer(int64_t n, Dtype dtype, uint64_t stream)
      : all(random({n + 1}, stream).to(dtype).to(kCuda)) {}
  void* data() { return static_cast<std::byte*>(all.raw()) + size_of(all.dtype()); }
  std::vector<double> values() const {
    const std::vector<double> v = to_vector<double>(all);
    return {v.begin() + 1, v.end()};
  }
};

struct Sizes {
  int64_t m, n, k;
};

// Against sums in double; what lies between the rows of c stays.
void compare(const Sizes& s, Dtype in, Dtype out, bool a_transposed, bool b_transposed,
             bool accumulate, int64_t gap) {
  const auto [m, n, k] = s;
  const int64_t a_stride = (a_transposed ? m : k) + gap, b_stride = (b_transposed ? k : n) + gap,
                c_stride = n + gap;
  Buffer a((a_transposed ? k : m) * a_stride, in, 1), b((b_transposed ? n : k) * b_stride, in, 2),
      c(m * c_stride, out, 3);
  const std::vector<double> av = a.values(), bv = b.values();
  std::vector<double> expected = c.values();
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      double sum = accumulate ? expected[size_t(i * c_stride + j)] : 0;
      for (int64_t t = 0; t < k; ++t)
        sum += av[size_t(a_transposed ? t * a_stride + i : i * a_stride + t)] *
               bv[size_t(b_transposed ? j * b_stride + t : t * b_stride + j)];
      expected[size_t(i * c_stride + j)] = sum;
    }
  cuda::gemm(current_stream(kCuda), {.m = m,
                                     .n = n,
                                     .k = k,
                                     .in = in,
                                     .a = {a.data(), a_stride, a_transposed},
                                     .b = {b.data(), b_stride, b_transposed},
                                     .out = out,
                                     .c = c.data(),
                                     .c_stride = c_stride,
                                     .accumulate = accumulate});
  const std::vector<double> found = c.values();
  // Sums of k terms of at most 1 in f32, and one rounding of the result.
  const double bound = double(k + 1) * double(k + 1) * 0x1p-24;
  for (size_t i = 0; i < found.size(); ++i) {
    const double rounding = out == Dtype::bf16 ? std::abs(expected[i]) * 0x1p-8 : 0;
    REQUIRE(std::abs(found[i] - expected[i]) <= bound + rounding);
  }
}

void compare_all(const Sizes& s) {
  CAPTURE(s.m);
  CAPTURE(s.n);
  CAPTURE(s.k);
  for (const auto& [in, out] :
       {std::pair{Dtype::f32, Dtype::f32}, {Dtype::bf16, Dtype::f32}, {Dtype::bf16, Dtype::bf16}})
    for (const int bits : {0, 1, 2, 3, 4, 7})
      for (const int64_t gap : {0, 3}) {
        CAPTURE(bits);
        CAPTURE(gap);
        compare(s, in, out, bits & 1, bits & 2, bits & 4, gap);
      }
}

}  // namespace

TEST_CASE("gemm: what cuBLASLt refuses is done all the same, whatever sizes and alignment") {
  auto& failing = cublaslt().failing;
  const int matmuls = cublaslt().matmuls;
  failing["cublasLtMatmulAlgoGetHeuristic"] = CUBLAS_STATUS_NOT_SUPPORTED;
  for (const Sizes s : {Sizes{1, 1, 1}, {63, 65, 17}, {5, 129, 33}, {70, 3, 1}}) {
    compare_all(s);
    const OtherThreadOrder other;
    compare_all(s);
  }
  failing.clear();
  failing["cublasLtMatmul"] = CUBLAS_STATUS_NOT_SUPPORTED;  // found out when it is started
  compare_all({7, 9, 11});
  failing.clear();
  const int searches = cublaslt().searches;
  compare_all({7, 9, 11});
  CHECK(cublaslt().searches == searches);
  CHECK(cublaslt().matmuls == matmuls);
}

TEST_CASE("gemm: a refusal is counted with the bytes of the simple kernel") {
  cublaslt().failing["cublasLtMatmulAlgoGetHeuristic"] = CUBLAS_STATUS_NOT_SUPPORTED;
  const Tensor a = zeros({130, 10}, Dtype::f32, kCuda), b = zeros({10, 65}, Dtype::f32, kCuda);
  Tensor c = zeros({130, 65}, Dtype::f32, kCuda);
  const cuda::Gemm matmul{.m = 130,
                          .n = 65,
                          .k = 10,
                          .in = Dtype::f32,
                          .a = {a.raw(), 10},
                          .b = {b.raw(), 65},
                          .out = Dtype::f32,
                          .c = c.raw(),
                          .c_stride = 65};
  profile::start(kCuda);
  for (const char* op : {"first", "second", "second"}) {
    const profile::OpScope scope(op, 0, 1);
    cuda::gemm(current_stream(kCuda), matmul);
  }
  { const profile::OpScope scope("none", 0, 1); }
  const auto rows = profile::stop();
  cublaslt().failing.clear();
  // Tiles of 64: a is read for two columns of them, b for three rows.
  const double extra = 4.0 * (130 * 10 + 2 * 10 * 65);
  CHECK(rows.at("first").bytes == 1 + extra);
  CHECK(rows.at("second").bytes == 2 * (1 + extra));
  CHECK(rows.at("second").slow_calls == 2);
  CHECK(rows.at("none").bytes == 1);
  CHECK(rows.at("none").slow_calls == 0);
}
